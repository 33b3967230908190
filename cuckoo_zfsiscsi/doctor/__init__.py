"""`zfsiscsi doctor`: whether this server is fit to be a storage server, and what has to be done.

Each check is a function of the configuration and a view of the system, and changes nothing. Where
`zfsiscsi check` looks at the configuration and what it names, this looks at the machine below.
"""

"""The dashboard: what people see of the service in a browser. It needs nothing from elsewhere."""

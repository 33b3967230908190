"""cape."""

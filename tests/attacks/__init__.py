"""What one guest can do to others: nothing. Each file is one theme, each test one attack."""

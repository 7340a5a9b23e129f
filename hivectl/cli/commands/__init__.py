"""One small file per noun."""

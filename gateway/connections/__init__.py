"""What every connection has, whichever server it belongs to: bounds, deadlines, and the bytes that it holds."""

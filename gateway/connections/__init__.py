"""What connections of all servers have in common: bounds, deadlines, and counts of them and of the bytes they hold."""

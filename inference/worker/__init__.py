"""What runs inside a worker process: it loads one model and runs one batch after another.

`workers`, in the plural, is the gateway's side of the same processes: it starts them and sends them batches. The two
import nothing of each other; what they exchange is in `transport`.
"""

"""The gateway's side of its worker processes: it starts them, gives them batches, watches them, and replaces lost ones.

`worker`, in the singular, is what runs inside such a process. The two import nothing of each other.
"""

"""Headers of requests and answers that mean the same in every dialect."""

"""Headers of requests and answers that have one meaning in all dialects."""

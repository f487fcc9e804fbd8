"""Bodies that name neither tensors nor shapes, as clients of TorchServe and SageMaker send them, and their answers."""

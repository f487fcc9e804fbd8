"""Bodies that name neither tensors nor shapes, as TorchServe and SageMaker have them, and their answers."""

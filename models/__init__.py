"""What learns: inputs, embeddings, heads, losses, optimizers, teacher, student, metrics, serving module."""

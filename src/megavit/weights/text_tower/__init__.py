"""Text towers of two-tower models (CLIP, SigLIP), whose embeddings are compared with those of images."""

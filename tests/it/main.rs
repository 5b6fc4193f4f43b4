mod signature_vectors;

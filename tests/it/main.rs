mod schemas;
mod signature_vectors;
mod spec_errors;

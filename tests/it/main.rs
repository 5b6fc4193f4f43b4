
mod spec_errors;

mod schemas;
mod spec_errors;

//! Configuration: a YAML file, checked into the model that everything else runs on.

pub mod model;

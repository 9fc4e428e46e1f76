//! Backends that somebody else runs, at fixed addresses: there is nothing to start and nothing to stop.

use std::future::Future;
use std::pin::Pin;

use holdline_core::ids::BackendId;

use super::Provider;

/// The provider of `static` fleets. Scaling only advises there, so State sends it nothing.
#[derive(Clone, Copy, Debug)]
pub struct StaticProvider;

impl Provider for StaticProvider {
    fn start(&self, _id: BackendId) {}

    fn retire(&self, _id: &BackendId) {}

    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    fn kill(&self) {}
}

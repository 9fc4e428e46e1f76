//! Servers that people have: their pages, typed.

use super::page::Desk;

#[tokio::test]
async fn node_ws() {
    Desk::new("docs/recipes/ws").follow("README.md").await;
}

#[tokio::test]
async fn python_websockets() {
    Desk::new("docs/recipes/websockets").follow("README.md").await;
}

#[tokio::test]
async fn an_event_stream_beside_an_api() {
    Desk::new("docs/recipes/sse").follow("README.md").await;
}

#[tokio::test]
async fn phoenix_channels() {
    Desk::new("docs/recipes/phoenix").follow("README.md").await;
}

//! Servers that people have: their pages, typed.

use super::page::Desk;

const PORTS: &[&str] = &["8080", "9900", "9001", "9002", "9003", "9101"];

#[tokio::test]
async fn node_ws() {
    Desk::new("docs/recipes/ws", 18_040, PORTS).follow("README.md").await;
}

#[tokio::test]
async fn python_websockets() {
    Desk::new("docs/recipes/websockets", 18_060, PORTS).follow("README.md").await;
}

#[tokio::test]
async fn an_event_stream_beside_an_api() {
    Desk::new("docs/recipes/sse", 18_080, PORTS).follow("README.md").await;
}

#[tokio::test]
async fn phoenix_channels() {
    Desk::new("docs/recipes/phoenix", 18_100, PORTS).follow("README.md").await;
}

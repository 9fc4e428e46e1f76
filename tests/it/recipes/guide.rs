//! The guide, typed: the reference application behind Holdline, from a query to a drain.

use super::page::Desk;

#[tokio::test]
async fn the_guide_works_as_it_says() {
    let mut desk = Desk::new("docs");
    desk.brings("config/live.yaml");
    desk.follow("guide.md").await;
}

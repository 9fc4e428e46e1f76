//! The guide, typed: the reference application behind Holdline, from a query to a drain.

use super::page::Desk;

const PORTS: &[&str] =
    &["8080", "9900", "9100", "9101", "20000", "20001", "20002", "20003", "20004", "20005", "20006", "20007", "20008", "20009"];

#[tokio::test]
async fn the_guide_works_as_it_says() {
    let mut desk = Desk::new("docs", 18_120, PORTS);
    desk.brings("config/live.yaml");
    desk.follow("guide.md").await;
}

//! All simulated users together.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::stage::Stage;
use super::user::User;
use super::wave::Wave;

/// Plays the whole wave; resolves when the last user has left.
pub(super) async fn play(wave: Wave, start: Instant, stage: Arc<Stage>) {
    let mut users = JoinSet::new();
    for (number, stay) in (0u32..).zip(wave.stays()) {
        users.spawn(User::new(number, Arc::clone(&stage)).live(stay, start));
    }
    while users.join_next().await.is_some() {}
}

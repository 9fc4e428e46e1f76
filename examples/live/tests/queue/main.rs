//! What every queue promises, checked of each: one set of checks, over real servers and processes.

mod checks;
mod embedded;
mod live;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod rig;
mod server;
mod silent;

/// The checks, each a test of its own, over one rig.
macro_rules! keeps {
    ($rig:ty: $($more:ident)*) => {
        keeps!(@ $rig: every_entry_comes_once_and_in_order what_is_lost_with_a_connection_comes_with_the_next a_restart_loses_nothing
            a_slow_subscriber_holds_up_nobody newest_is_what_a_subscriber_hears_last a_server_that_is_away_is_down_and_comes_back
            who_was_away_too_long_is_told $($more)*);
    };
    (@ $rig:ty: $($check:ident)*) => {
        $(#[tokio::test]
        async fn $check() {
            crate::checks::$check::<$rig>().await;
        })*
    };
}

mod embedded_keeps {
    keeps!(crate::embedded::Rig:);
}

#[cfg(feature = "redis")]
mod redis_keeps {
    keeps!(crate::redis::Rig: two_publishers_publish_each_entry_once);
}

#[cfg(feature = "postgres")]
mod postgres_keeps {
    keeps!(crate::postgres::Rig: two_publishers_publish_each_entry_once);
}

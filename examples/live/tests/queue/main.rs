//! What every queue promises, checked of each: one set of checks, over real servers and processes.

mod checks;
mod embedded;
mod live;
#[cfg(any(feature = "redis", feature = "postgres"))]
mod outage;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "redis", feature = "postgres"))]
mod published;
#[cfg(feature = "redis")]
mod redis;
mod rig;
mod server;
mod silent;

/// The checks, each a test of its own, over one rig.
macro_rules! tests {
    ($rig:ty: $($module:ident::$check:ident)*) => {
        $(#[tokio::test]
        async fn $check() {
            crate::$module::$check::<$rig>().await;
        })*
    };
}

macro_rules! keeps {
    ($rig:ty) => {
        tests!($rig: checks::every_entry_comes_once_and_in_order checks::what_is_lost_with_a_connection_comes_with_the_next
            checks::a_restart_loses_nothing checks::a_slow_subscriber_holds_up_nobody checks::newest_is_what_a_subscriber_hears_last
            checks::a_server_that_is_away_is_down_and_comes_back checks::who_was_away_too_long_is_told);
    };
}

mod embedded_keeps {
    keeps!(crate::embedded::Rig);
}

#[cfg(feature = "redis")]
mod redis_keeps {
    keeps!(crate::redis::Rig);
    tests!(crate::redis::Rig: published::two_publishers_publish_each_entry_once outage::an_outage_loses_and_halves_nothing);
}

#[cfg(feature = "postgres")]
mod postgres_keeps {
    keeps!(crate::postgres::Rig);
    tests!(crate::postgres::Rig: published::two_publishers_publish_each_entry_once outage::an_outage_loses_and_halves_nothing);
}

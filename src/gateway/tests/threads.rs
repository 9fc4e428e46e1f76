//! Connections over the threads.

use tokio::net::TcpStream;

use super::support::*;

/// Enough that half of them are more than two threads may differ by.
const CLIENTS: usize = 300;

fn counts(rig: &Rig) -> [usize; 2] {
    [0, 1].map(|thread| rig.gateway.shared.thread_handles[thread].connections())
}

/// Connects once more; on which thread that is.
async fn connect(rig: &Rig) -> (usize, TcpStream) {
    let before = counts(rig);
    let client = TcpStream::connect(rig.address).await.unwrap();
    eventually("it is accepted", || counts(rig) != before).await;
    (usize::from(counts(rig)[0] == before[0]), client)
}

#[tokio::test]
async fn when_counts_drift_apart_new_connections_go_to_the_emptiest_thread() {
    let rig = Rig::start(|_| ());
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect(&rig).await);
    }
    // The kernel spreads them, but those of one thread leave.
    let fuller = usize::from(counts(&rig)[1] > counts(&rig)[0]);
    assert!(counts(&rig)[1 - fuller] > 0);
    clients.retain(|(thread, _)| *thread == fuller);
    let stayed = clients.len();
    eventually("the others have left", || counts(&rig)[1 - fuller] == 0).await;
    assert_eq!(counts(&rig)[fuller], stayed);
    for _ in 0..40 {
        let (thread, client) = connect(&rig).await;
        assert_eq!(thread, 1 - fuller);
        clients.push((thread, client));
    }
    assert_eq!(counts(&rig)[fuller], stayed);
}

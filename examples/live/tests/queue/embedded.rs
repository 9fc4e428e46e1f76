//! The embedded queue: a `live api` process, whose log grows by mutations.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use holdline_live::delta::Entry;
use holdline_live::queue::{Subscribe, open_subscriber};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::live::Live;
use crate::rig;

pub(crate) struct Rig {
    written: Vec<Entry>,
    api: Option<Live>,
    window: u64,
    between: Between,
    dir: TempDir,
}

impl rig::Rig for Rig {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig { written: Vec::new(), api: None, window: 10_000, between: Between::start().await, dir };
        rig.restart();
        rig
    }

    async fn put(&mut self, rooms: &[&str]) {
        for room in rooms {
            let pos = self.written.len() as u64 + 1;
            let (status, delta) = self.api.as_ref().unwrap().comment(room, &format!("\"{room}\" ☂ {pos}")).await;
            assert_eq!(status, StatusCode::CREATED, "{delta}");
            self.written.push(Entry { pos, room: (*room).to_owned(), delta: serde_json::from_value(delta).unwrap() });
        }
    }

    fn written(&self) -> &[Entry] {
        &self.written
    }

    async fn outgrow(&mut self) {
        self.kill();
        self.window = 400;
        self.restart();
        self.put(&["lobby"; 1_000]).await;
    }

    fn subscriber(&self) -> Arc<dyn Subscribe> {
        open_subscriber("embedded", &format!("http://{}", self.between.address)).unwrap()
    }

    async fn cut(&mut self) {
        self.between.cut();
    }

    fn kill(&mut self) {
        self.api = None;
    }

    fn restart(&mut self) {
        let api = Live::api(self.dir.path(), "embedded", self.window);
        self.between.to.send_replace(Some(api.internal.parse().unwrap()));
        self.api = Some(api);
    }
}

/// An address that stays while the api behind it gets a new one, and connections that can be cut.
struct Between {
    address: SocketAddr,
    to: watch::Sender<Option<SocketAddr>>,
    cuts: watch::Sender<()>,
    _mover: JoinSet<()>,
}

impl Between {
    async fn start() -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to, target) = watch::channel(None);
        let (cuts, cut) = watch::channel(());
        let mut mover = JoinSet::new();
        mover.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut here, _) = listener.accept().await.unwrap();
                let (target, mut cut) = (*target.borrow(), cut.clone());
                connections.spawn(async move {
                    let Ok(mut there) = TcpStream::connect(target.unwrap()).await else { return };
                    cut.mark_unchanged();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Between { address, to, cuts, _mover: mover }
    }

    fn cut(&self) {
        self.cuts.send_replace(());
    }
}

//! The State task in virtual time, around a data plane that a test drives.

use holdline_core::cause::{EndCause, Phase};
use holdline_core::event::{Answer, Command, CommandError, Heartbeat, MoveRequest, NoticeKind, Observation};
use holdline_core::policy::{ProviderPolicy, StaticBackend};

use super::*;
use crate::controller::fake::FakePlane;
use crate::controller::{ControlError, Stopped, drain};
use crate::test_policy as policy;

struct Scene {
    plane: Arc<FakePlane>,
    control: Control,
    events: mpsc::Sender<Event>,
    providers: mpsc::Receiver<Effect>,
    drainer: Option<mpsc::Receiver<Effect>>,
    task: tokio::task::JoinHandle<()>,
}

impl Scene {
    fn new(provider: ProviderPolicy) -> Self {
        let plane = Arc::new(FakePlane::default());
        let (events, received) = mpsc::channel(16);
        let (to_drainer, drainer) = mpsc::channel(1);
        let (to_providers, providers) = mpsc::channel(16);
        let outlets = Outlets { drainer: to_drainer, providers: to_providers };
        let fleets = vec![Arc::new(policy::fleet("chat", provider))];
        let channel = (events.clone(), received);
        let (task, control) = StateTask::new(fleets, plane.clone(), Clock::start(), Metrics::new(), channel, outlets);
        let task = tokio::spawn(task.run());
        Scene { plane, control, events, providers, drainer: Some(drainer), task }
    }

    /// Static backends of capacity 1000, all ready and staying so.
    async fn ready(ids: &[&str]) -> Self {
        let backend =
            |id: &&str| StaticBackend { id: (*id).into(), address: "127.0.0.1:9".parse().unwrap(), capacity: Some(1000) };
        let scene = Scene::new(ProviderPolicy::Static(ids.iter().map(backend).collect()));
        for id in ids {
            let (events, name) = (scene.events.clone(), id.to_string());
            tokio::spawn(async move {
                let beat = || Event::Heartbeat {
                    fleet: "chat".into(),
                    backend: name.as_str().into(),
                    heartbeat: Heartbeat { ready: true, ..Heartbeat::default() },
                };
                while events.send(beat()).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            scene.until(|s| phase(s, id) == Phase::Ready).await;
        }
        scene
    }

    /// The data plane carries out orders.
    fn drains(&mut self) {
        tokio::spawn(drain(self.plane.clone(), self.drainer.take().unwrap()));
    }

    async fn until(&self, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut snapshots = self.control.watch();
        let found = tokio::time::timeout(Duration::from_secs(900), snapshots.wait_for(|s| holds(s))).await;
        Arc::clone(&found.expect("it never held").unwrap())
    }

    async fn drain(&self, id: &str, over: Duration) -> Result<Answer, ControlError> {
        let request = MoveRequest { over: Some(over), ..MoveRequest::default() };
        self.control.command(Command::Drain { fleet: "chat".into(), backend: id.into(), request }).await
    }

    fn kinds(&self) -> Vec<NoticeKind> {
        self.control.events().since(0).iter().map(|e| e.notice.kind).collect()
    }
}

fn phase(snapshot: &Snapshot, id: &str) -> Phase {
    snapshot.fleet("chat").unwrap().backend(id).unwrap().phase
}

fn sessions(snapshot: &Snapshot, id: &str) -> u32 {
    snapshot.fleet("chat").unwrap().backend(id).unwrap().sessions
}

#[tokio::test(start_paused = true)]
async fn fresh_counts_now_and_current_is_what_was_published() {
    let scene = Scene::ready(&["a"]).await;
    scene.plane.hold("chat", "a", 5);
    assert_eq!(sessions(&scene.control.current(), "a"), 0);
    assert_eq!(sessions(&scene.control.fresh().await.unwrap(), "a"), 5);
    assert_eq!(sessions(&scene.control.current(), "a"), 5, "it was published, too");
    scene.plane.hold("chat", "a", 6);
    scene.until(|s| sessions(s, "a") == 6).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_while_nothing_but_ages_changes() {
    let scene = Scene::ready(&["a", "b"]).await;
    // The autoscaler's first decisions.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut snapshots = scene.control.watch();
    let (before, adopted) = (Arc::clone(&snapshots.borrow_and_update()), scene.plane.inner.lock().adopted.len());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!snapshots.has_changed().unwrap(), "{:#?} became {:#?}", before.fleets, snapshots.borrow().fleets);
    assert_eq!(scene.plane.inner.lock().adopted.len(), adopted);
    // Who asks gets ages of now.
    let fresh = scene.control.fresh().await.unwrap();
    let heard = fresh.fleets[0].backend("a").unwrap().heartbeat_at.unwrap();
    assert!(fresh.version == before.version && fresh.at.since(before.at) >= Duration::from_secs(60));
    assert!(fresh.at.since(heard) <= Duration::from_secs(1), "heard at {heard:?}, and it is {:?}", fresh.at);
    assert!(!snapshots.has_changed().unwrap(), "asking is no change");
    scene.plane.hold("chat", "a", 1);
    tokio::time::timeout(TICK * 2, snapshots.changed()).await.expect("with the next tick").unwrap();
    assert_eq!(sessions(&snapshots.borrow(), "a"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_data_plane_obeys_before_anybody_sees_it() {
    let mut scene = Scene::ready(&["a", "b"]).await;
    scene.plane.hold("chat", "a", 100);
    assert_eq!(scene.plane.limit("chat", "a"), 1000);
    let mut drainer = scene.drainer.take().unwrap();
    let mut snapshots = scene.control.watch();
    let plane = scene.plane.clone();
    let seen = tokio::spawn(async move {
        snapshots.wait_for(|s| phase(s, "a") == Phase::Draining).await.unwrap();
        plane.limit("chat", "a")
    });
    scene.drain("a", Duration::from_secs(10)).await.unwrap();
    assert_eq!(scene.plane.limit("chat", "a"), 0, "answered");
    assert_eq!(seen.await.unwrap(), 0, "published");
    drainer.recv().await.unwrap();
    assert_eq!(scene.plane.limit("chat", "a"), 0, "ordered");
}

#[tokio::test(start_paused = true)]
async fn a_drain_keeps_its_pace_in_virtual_time() {
    let mut scene = Scene::ready(&["a", "b"]).await;
    scene.drains();
    scene.plane.hold("chat", "a", 400);
    let Answer::Plan(plan) = scene.drain("a", Duration::from_secs(20)).await.unwrap() else { panic!("no plan") };
    assert_eq!((plan.sessions, plan.over_ms), (400, 20_000));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let half = scene.control.fresh().await.unwrap();
    let (left, plan) = (sessions(&half, "a"), half.fleets[0].backend("a").unwrap().drain.clone().unwrap());
    assert!((100..=220).contains(&left), "{left} of 400 are left at half time");
    assert!(left.abs_diff(plan.planned) <= 5, "{left} are left, {} should be", plan.planned);
    scene.until(|s| phase(s, "a") == Phase::Drained).await;
    let ended = scene.plane.inner.lock().ended.clone();
    assert!(ended.iter().all(|(_, backend, order)| order.ending.cause == EndCause::Drained && backend.as_str() == "a"));
    assert!(ended.len() > 50, "in small steps: {}", ended.len());
    let kinds = scene.kinds();
    assert!(kinds.contains(&NoticeKind::DrainStarted) && kinds.contains(&NoticeKind::DrainEnded), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_data_plane_that_does_not_end_sessions_holds_nobody_up() {
    // Nobody reads the drainer's orders, and one fills its channel.
    let scene = Scene::ready(&["a", "b"]).await;
    scene.plane.hold("chat", "a", 400);
    scene.drain("a", Duration::from_secs(20)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(sessions(&scene.control.fresh().await.unwrap(), "a"), 400);
    assert_eq!(phase(&scene.control.current(), "b"), Phase::Ready, "heartbeats are still heard");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_cannot_be_is_refused_with_what_there_is() {
    let scene = Scene::ready(&["a"]).await;
    let refused = scene.drain("ghost", Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(refused, ControlError::Refused(CommandError::UnknownBackend { .. })), "{refused:?}");
    assert!(refused.to_string().contains("it has: a"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_child_is_started_observed_and_replaced_when_it_crashes() {
    let process = policy::process(&["server"], (20_000, 20_099), std::path::Path::new("logs"));
    let mut scene = Scene::new(ProviderPolicy::Process(process));
    let started = |effect| match effect {
        Some(Effect::Start { backend, .. }) => backend,
        other => panic!("{other:?}"),
    };
    let first = started(scene.providers.recv().await);
    let observed = |backend: &holdline_core::ids::BackendId, observation| Event::Observed {
        fleet: "chat".into(),
        backend: backend.clone(),
        observation,
    };
    let address = "127.0.0.1:9".parse().unwrap();
    scene.events.send(observed(&first, Observation::Started { address })).await.unwrap();
    scene.until(|s| s.fleets[0].backend(first.as_str()).unwrap().address == Some(address)).await;

    let reason = "exit status: 3".to_owned();
    scene.events.send(observed(&first, Observation::Exited { reason })).await.unwrap();
    let second = started(scene.providers.recv().await);
    assert_ne!(first, second);
    let failed = scene.control.events().since(0).into_iter().find(|e| e.notice.kind == NoticeKind::BackendFailed).unwrap();
    assert!(failed.notice.message.contains("exit status: 3"), "{}", failed.notice.message);
    assert!(failed.at_unix_ms > 1_600_000_000_000);
}

#[tokio::test(start_paused = true)]
async fn once_stopping_nothing_is_started_and_in_the_end_nobody_answers() {
    let process = policy::process(&["server"], (20_000, 20_099), std::path::Path::new("logs"));
    let mut scene = Scene::new(ProviderPolicy::Process(process));
    let Some(Effect::Start { backend, .. }) = scene.providers.recv().await else { panic!("min is 1") };
    scene.control.shut_down().await.unwrap();
    assert!(scene.control.current().shutting_down);
    let observation = Observation::Exited { reason: "killed".into() };
    scene.events.send(Event::Observed { fleet: "chat".into(), backend, observation }).await.unwrap();
    scene.until(|s| s.fleets[0].backends.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(scene.providers.try_recv().is_err());

    scene.task.abort();
    let _ = scene.task.await;
    assert_eq!(scene.control.fresh().await.unwrap_err(), Stopped);
    assert_eq!(scene.control.shut_down().await.unwrap_err(), Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_events_does_not_stop_the_ticks() {
    let scene = Scene::ready(&["a", "b"]).await;
    let events = scene.events.clone();
    let flood = tokio::spawn(async move {
        let dial = || Event::Dial { fleet: "chat".into(), backend: "a".into(), connected: true };
        // The sleep lets virtual time pass; 10,000 a second all the same.
        loop {
            for _ in 0..100 {
                events.send(dial()).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let before = scene.control.current().at;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let fresh = scene.control.fresh().await.unwrap();
    assert!(fresh.at.since(before) >= Duration::from_secs(5));
    flood.abort();
}

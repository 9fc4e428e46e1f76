//! Which fleet a request is for: exact host, then `*.wildcard`, then any; then the longest path prefix on `/` borders.

use std::sync::Arc;

use crate::config::model::{HostMatch, Route};
use crate::config::units::Sessions;

use crate::gateway::admission::fleet::Fleet;
use crate::gateway::error::GatewayError;

/// All routes, in the order in which they are tried.
#[derive(Debug)]
pub(crate) struct Routes {
    ordered: Vec<(HostMatch, String, To)>,
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub(crate) struct To {
    pub(crate) fleet: Arc<Fleet>,
    /// What opens a session there.
    pub(crate) sessions: Sessions,
}

impl Routes {
    /// Sorted by precedence; without any route, everything goes to the only fleet.
    ///
    /// # Errors
    /// [`GatewayError::UnknownFleet`].
    pub(crate) fn new(routes: &[Route], fleets: &[Arc<Fleet>]) -> Result<Self, GatewayError> {
        match routes.iter().find(|route| fleets.iter().all(|f| f.policy.name != route.fleet)) {
            Some(astray) => Err(GatewayError::UnknownFleet(astray.fleet.to_string())),
            None => Ok(Self::of(routes, fleets)),
        }
    }

    /// The same of a configuration that was checked; a route to a fleet that is gone leads nowhere.
    pub(crate) fn of(routes: &[Route], fleets: &[Arc<Fleet>]) -> Self {
        let mut ordered = Vec::with_capacity(routes.len());
        for route in routes {
            if let Some(fleet) = fleets.iter().find(|f| f.policy.name == route.fleet) {
                let to = To { fleet: Arc::clone(fleet), sessions: route.sessions };
                ordered.push((route.host.clone(), route.path.clone(), to));
            }
        }
        if let ([], [only]) = (routes, fleets) {
            ordered.push((HostMatch::Any, "/".to_owned(), To { fleet: Arc::clone(only), sessions: Sessions::Auto }));
        }
        // Stable: of two equal routes the first of the file counts.
        ordered.sort_by_key(|(host, path, _)| (host_rank(host), std::cmp::Reverse(path.trim_end_matches('/').len())));
        Routes { ordered }
    }

    /// Where `host` (without port, any case) and `path` (without query) lead.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&To> {
        self.ordered.iter().find(|(h, p, _)| host_matches(h, host) && path_matches(p, path)).map(|(_, _, to)| to)
    }
}

/// Exact first, then the longest suffix, then any.
fn host_rank(host: &HostMatch) -> (u8, std::cmp::Reverse<usize>) {
    match host {
        HostMatch::Exact(_) => (0, std::cmp::Reverse(0)),
        HostMatch::Below(suffix) => (1, std::cmp::Reverse(suffix.len())),
        HostMatch::Any => (2, std::cmp::Reverse(0)),
    }
}

fn host_matches(wanted: &HostMatch, host: &str) -> bool {
    match wanted {
        HostMatch::Exact(name) => host.eq_ignore_ascii_case(name),
        HostMatch::Below(suffix) => {
            let (host, suffix) = (host.as_bytes(), suffix.as_bytes());
            host.len() > suffix.len() && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        }
        HostMatch::Any => true,
    }
}

fn path_matches(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The host of a `Host` value or authority, without its port; an IPv6 literal keeps its brackets.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => &authority[..at],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::admission::fleet::tests::fleet;

    fn routes(list: &[(HostMatch, &str, &str)]) -> Routes {
        let fleets: Vec<_> = list.iter().map(|(_, _, f)| fleet(f)).collect();
        let route = |(host, path, f): &(HostMatch, &str, &str)| Route {
            host: host.clone(),
            path: (*path).into(),
            fleet: (*f).into(),
            sessions: Sessions::Auto,
        };
        Routes::new(&list.iter().map(route).collect::<Vec<_>>(), &fleets).unwrap()
    }

    fn found<'r>(routes: &'r Routes, host: &str, path: &str) -> Option<&'r str> {
        routes.find(host, path).map(|to| to.fleet.policy.name.as_str())
    }

    #[test]
    fn the_narrowest_host_counts_before_the_longest_path() {
        let r = routes(&[
            (HostMatch::Any, "/a/b/c", "any"),
            (HostMatch::Below(".example.com".into()), "/", "wild"),
            (HostMatch::Below(".eu.example.com".into()), "/", "eu"),
            (HostMatch::Exact("chat.example.com".into()), "/", "exact"),
            (HostMatch::Exact("chat.example.com".into()), "/a", "exact-a"),
        ]);
        assert_eq!(found(&r, "Chat.Example.com", "/x"), Some("exact"));
        assert_eq!(found(&r, "chat.example.com", "/a/b/c"), Some("exact-a"));
        assert_eq!(found(&r, "other.example.com", "/a/b/c"), Some("wild"));
        assert_eq!(found(&r, "x.eu.example.com", "/"), Some("eu"));
        assert_eq!(found(&r, "example.com", "/a/b/c/d"), Some("any"));
        assert_eq!(found(&r, "example.com", "/a/b/cd"), None);
        assert_eq!(found(&r, ".example.com", "/q"), None);
    }

    #[test]
    fn a_prefix_ends_at_a_border() {
        assert!(path_matches("/poll", "/poll") && path_matches("/poll", "/poll/1") && path_matches("/poll/", "/poll"));
        assert!(!path_matches("/poll", "/polls") && path_matches("/", "/anything") && path_matches("/", "/"));
    }

    #[test]
    fn ports_are_no_part_of_a_host() {
        assert_eq!(without_port("a.example:8080"), "a.example");
        assert_eq!(without_port("[::1]:8080"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(without_port("a.example"), "a.example");
    }
}

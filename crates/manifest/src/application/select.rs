//! Running a part of an application: some of its components, and those that they reach.

use std::collections::{BTreeMap, BTreeSet};

use super::{Application, ComponentId, Route, Target, Variable};
use crate::{
    hosts::{HostPattern, OutboundHost},
    reader::{list, near},
    template,
};

/// The host of a component for the other components of its application is its id before this.
const INTERNAL: &str = "spin.internal";

/// Components were asked for that the application does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the application has no component {}: {hint}", quoted(.ids))]
pub struct UnknownComponents {
    /// The ids that it does not have.
    pub ids: Vec<String>,
    hint: String,
}

fn quoted(ids: &[String]) -> String {
    list(&ids.iter().map(String::as_str).collect::<Vec<_>>())
}

impl Application {
    /// The application with the components `ids` only, and those that they reach by service chaining
    /// (`http://<id>.spin.internal` in `allowed_outbound_hosts`). Routes to other components and static responses go.
    ///
    /// # Errors
    /// When it has not all of them.
    pub fn select<S: AsRef<str>>(mut self, ids: &[S]) -> Result<Self, UnknownComponents> {
        let hosts = self.components.iter().map(|(id, component)| (id, component.allowed_outbound_hosts.as_slice()));
        let selected = select(ids, &hosts.collect(), &self.variables)?;
        self.components.retain(|id, _| selected.contains(id));
        retain_routes(&mut self.routes, &selected);
        Ok(self)
    }
}

/// Drops what does not lead to one of `selected`.
pub(crate) fn retain_routes(routes: &mut Vec<Route>, selected: &BTreeSet<ComponentId>) {
    routes.retain(|route| match &route.target {
        Target::Component { id, .. } => selected.contains(id),
        Target::Static { .. } => false,
    });
}

/// `ids`, and what they reach: `hosts` has the allowed outbound hosts of each component.
pub(crate) fn select<S: AsRef<str>>(
    ids: &[S],
    hosts: &BTreeMap<&ComponentId, &[String]>,
    variables: &BTreeMap<String, Variable>,
) -> Result<BTreeSet<ComponentId>, UnknownComponents> {
    let find = |id: &str| hosts.keys().find(|known| known.as_str() == id).copied();
    let unknown: Vec<String> =
        ids.iter().map(AsRef::as_ref).filter(|id| find(id).is_none()).map(str::to_owned).collect();
    if let Some(first) = unknown.first() {
        let known: Vec<&str> = hosts.keys().map(|id| id.as_str()).collect();
        let all = format!("it has {}", list(&known));
        let hint = near(first, &known).map_or(all.clone(), |near| format!("did you mean `{near}`? ({all})"));
        return Err(UnknownComponents { ids: unknown, hint });
    }
    let mut selected = BTreeSet::new();
    let mut reached: Vec<&ComponentId> = ids.iter().filter_map(|id| find(id.as_ref())).collect();
    while let Some(id) = reached.pop() {
        if selected.insert(id.clone()) {
            let entries = hosts.get(id).copied().unwrap_or_default();
            let chained: Vec<Chained> = entries.iter().filter_map(|entry| chained(entry, variables)).collect();
            reached.extend(hosts.keys().filter(|other| chained.iter().any(|chained| chained.is(other))));
        }
    }
    Ok(selected)
}

/// Which components an entry of `allowed_outbound_hosts` names.
enum Chained {
    All,
    One(String),
}

impl Chained {
    fn is(&self, id: &ComponentId) -> bool {
        match self {
            Self::All => true,
            Self::One(name) => id.as_str().eq_ignore_ascii_case(name),
        }
    }
}

/// Templates have the defaults of their variables here: what is set otherwise is known to whoever runs it only.
fn chained(entry: &str, variables: &BTreeMap<String, Variable>) -> Option<Chained> {
    let default = |name: &str| variables.get(name).and_then(|variable| variable.default.as_deref());
    let entry = template::fill(entry, default).ok()?;
    match entry.parse::<OutboundHost>().ok()?.host {
        HostPattern::Below(domain) if domain == INTERNAL => Some(Chained::All),
        HostPattern::Name(name) => {
            let id = name.strip_suffix(INTERNAL)?.strip_suffix('.')?;
            Some(Chained::One(id.to_owned()))
        }
        HostPattern::Any | HostPattern::Below(_) | HostPattern::Network { .. } | HostPattern::Own => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(ids: &[&str], hosts: &[(&str, &[&str])]) -> Result<Vec<String>, String> {
        let owned: Vec<(ComponentId, Vec<String>)> = hosts
            .iter()
            .map(|(id, hosts)| (id.parse().unwrap(), hosts.iter().map(|host| (*host).to_owned()).collect()))
            .collect();
        let hosts = owned.iter().map(|(id, hosts)| (id, hosts.as_slice())).collect();
        let variable = Variable { default: Some("b".to_owned()), ..Variable::default() };
        let variables = BTreeMap::from([("to".to_owned(), variable)]);
        let selected = select(ids, &hosts, &variables).map_err(|error| error.to_string())?;
        Ok(selected.into_iter().map(String::from).collect())
    }

    #[test]
    fn a_component_is_kept_with_those_that_it_reaches() {
        let hosts: [(&str, &[&str]); 4] = [
            ("a", &["https://example.com", "http://{{ to }}.spin.internal", "*://*:*"]),
            ("b", &["http://c.spin.internal/"]),
            ("c", &["http://a.spin.internal"]),
            ("d", &["http://*.spin.internal"]),
        ];
        assert_eq!(selected(&["a"], &hosts).unwrap(), ["a", "b", "c"]);
        assert_eq!(selected(&["d"], &hosts).unwrap(), ["a", "b", "c", "d"]);
        assert_eq!(
            selected(&["e", "a"], &hosts).unwrap_err(),
            "the application has no component `e`: it has `a`, `b`, `c` and `d`"
        );
        let one: [(&str, &[&str]); 2] = [("front-end", &["http://self"]), ("other", &[])];
        assert_eq!(selected(&["front-end"], &one).unwrap(), ["front-end"]);
        assert_eq!(
            selected(&["frontend"], &one).unwrap_err(),
            "the application has no component `frontend`: did you mean `front-end`? (it has `front-end` and `other`)"
        );
    }
}

//! The API server as operators see it: what is written, and who hears of it when.

use super::{Event, World};
use crate::api::{Id, Object};

impl World {
    /// Writes an object; every operator hears of it, each in its own time.
    pub(crate) fn put(&mut self, id: &Id, object: &Object) -> Option<u64> {
        let version = self.api.put(self.now, id, object.clone())?;
        self.broadcast(id, version, Some(object));
        Some(version)
    }

    /// Deletes an object.
    pub(crate) fn delete(&mut self, id: &Id) -> Option<u64> {
        let version = self.api.delete(self.now, id)?;
        self.broadcast(id, version, None);
        Some(version)
    }

    fn broadcast(&mut self, id: &Id, version: u64, object: Option<&Object>) {
        for operator in 0..self.operators.len() {
            let delay = self.scenario.watch_delay(&mut self.rng);
            let earliest = self.watch_at.get(&(operator, id.kind())).copied().unwrap_or_default();
            let at = (self.now + delay).max(earliest);
            self.watch_at.insert((operator, id.kind()), at);
            let process = self.operators.get(operator).map_or(0, |it| it.process);
            let event = Event::Watch { operator, process, id: id.clone(), version, object: object.cloned() };
            self.after(at - self.now, event);
        }
    }

    pub(super) fn hear_watch(&mut self, operator: usize, process: u32, id: &Id, version: u64, object: Option<Object>) {
        // The watch of a process ends with it.
        if self.operators.get(operator).is_none_or(|it| it.process != process) {
            return;
        }
        if self.deaf_until.get(operator).is_some_and(|until| self.now < *until) {
            return;
        }
        let event = Event::Watch { operator, process, id: id.clone(), version, object };
        let Some(Event::Watch { object, .. }) = self.awake(operator, event) else { return };
        // Twice, as a watch that is resumed may say it.
        let again = self.rng.u8(..) < 10;
        let Some(it) = self.operators.get_mut(operator) else { return };
        let news = it.observe(id, version, object.clone());
        if again {
            it.observe(id, version, object);
        }
        if news {
            self.news(operator, id);
        }
    }

    fn news(&mut self, operator: usize, id: &Id) {
        match id.app() {
            Some(app) => {
                let app = app.clone();
                if let Some(leading) = self.operators.get_mut(operator).and_then(|it| it.leading.as_mut()) {
                    leading.dirty.insert(app);
                }
                self.schedule(operator);
            }
            None => self.fleet_changed(operator),
        }
    }

    /// A watch had to begin anew: what was deleted meanwhile is not mentioned, only missing.
    pub(super) fn relist(&mut self, operator: usize) {
        if self.awake(operator, Event::Relist(operator)).is_none() {
            return;
        }
        let (objects, version) = (self.api.objects.clone(), self.api.version);
        let Some(it) = self.operators.get_mut(operator) else { return };
        (it.cache, it.listed_at) = (objects, version);
        it.listed = true;
        it.look_at_all();
        self.fleet_changed(operator);
    }
}

//! Changes of the configuration: by command, by reload, by signal. A change that fails leaves everything as it was.

use lb_core::config::{self, Config, Interface, Limits, Problem};
use lb_core::edit::{self, Change};
use lb_core::health::Verdict;
use lb_core::history::Cause;
use lb_core::plan::ServiceKey;
use tokio::time::Instant;

use super::controller::Controller;
use super::file::{self, Draft, Loaded};
use super::startup::verdicts_in_force;
use crate::api::ApiError;
use crate::api::types::ChangeReply;

impl Controller {
    /// Whether the file on disk says something else than what is in force. A file that can't be read does.
    pub(super) fn changed_on_disk(&self) -> bool {
        file::read(&self.options.config).map_or(true, |text| text != self.loaded.text)
    }

    /// Applies a command's change and writes it to the file.
    ///
    /// # Errors
    /// A conflict if the file was edited meanwhile; all problems of the configuration that would result.
    pub(super) async fn change(&mut self, change: &Change) -> Result<ChangeReply, ApiError> {
        let path = self.options.config.clone();
        let on_disk = file::read(&path).map_err(|error| {
            ApiError::internal(
                format!("{error:#}; nothing was changed"),
                "mend the file and repeat the command",
            )
        })?;
        if on_disk != self.loaded.text {
            return Err(ApiError::conflict(
                format!(
                    "{} was edited since it was loaded: the change would overwrite that, or be overwritten",
                    path.display()
                ),
                "put the file in force first with `fairlead config reload`, then repeat the command",
            ));
        }
        let text = edit::apply(&self.loaded.text, change)?;
        let next =
            file::understand_change(&path, text, self.loaded.generation + 1, &self.loaded.text).await?;
        let draft = Draft::write(&path, &next.text).map_err(|error| {
            ApiError::internal(
                format!("{error:#}; nothing was changed"),
                "free space, or mend the permissions of the directory, and repeat the command",
            )
        })?;
        let before = self.loaded.clone();
        let cause = Cause::Command(change.clone());
        self.put_in_force(next, &cause).await?;
        if let Err(error) = draft.publish(&before.text) {
            self.undo(before, cause).await;
            return Err(ApiError::internal(
                format!("{error:#}; the change was undone"),
                "mend what is named, or reload the file that was edited, and repeat the command",
            ));
        }
        tracing::info!(generation = self.loaded.generation, change = %change, "changed");
        Ok(self.changed(change.to_string()))
    }

    /// Puts the file in force as it is on disk.
    ///
    /// # Errors
    /// All problems of the file; the configuration in force stays.
    pub(super) async fn reload(&mut self) -> Result<ChangeReply, ApiError> {
        let result = self.try_reload().await;
        self.reload_ok = result.is_ok();
        result
    }

    async fn try_reload(&mut self) -> Result<ChangeReply, ApiError> {
        let path = self.options.config.clone();
        let text = file::read(&path)
            .map_err(|error| ApiError::internal(format!("{error:#}"), "mend the file and reload again"))?;
        if text == self.loaded.text {
            return Ok(self.changed(format!("{} has not changed", path.display())));
        }
        let next = file::understand(&path, text, self.loaded.generation + 1).await?;
        self.put_in_force(next, &Cause::Reload).await?;
        tracing::info!(generation = self.loaded.generation, "reloaded");
        Ok(self.changed(format!("reloaded {}", path.display())))
    }

    /// SIGHUP: there is nobody to answer but the log.
    pub(super) async fn reload_by_signal(&mut self) {
        if let Err(error) = self.reload().await {
            for problem in &error.problems {
                tracing::error!("{problem}");
            }
            tracing::error!(remedy = %error.remedy, "not reloaded, the configuration in force stays: {error}");
        }
    }

    fn changed(&self, message: String) -> ChangeReply {
        let mut warnings = self.loaded.warnings.clone();
        for (name, error) in &self.attach_errors {
            warnings.push(Problem {
                line: None,
                key: format!("interface {name}"),
                reason: format!("is not attached: {error}"),
                remedy: "it is tried again on its own; `fairlead status` shows when it succeeded".to_owned(),
            });
        }
        for service in &self.loaded.config.services {
            let is_followed = self.sync.follows(&ServiceKey::from(service));
            for backend in self.sync.beliefs.overridden(service).iter().filter(|_| is_followed) {
                warnings.push(Problem {
                    line: None,
                    key: format!("service {}", service.name),
                    reason: format!("another node is active, and its weight and state of {backend} count"),
                    remedy: "change them there as well".to_owned(),
                });
            }
        }
        ChangeReply { generation: self.loaded.generation, message, warnings }
    }

    /// Makes `next` the configuration in force, or leaves the one that is.
    async fn put_in_force(&mut self, next: Loaded, cause: &Cause) -> Result<(), ApiError> {
        let file = self.options.config.display().to_string();
        let fixed = changed_limits(&self.loaded.config.limits, &next.config.limits, &next.text);
        if !fixed.is_empty() {
            return Err(ApiError::invalid_config(&file, fixed));
        }
        // First what only the kernel can refuse: nothing is changed then.
        let listen = next.config.metrics.listen;
        let bound = self.metrics_listener.prepare(listen)?;
        let wanted: Vec<Interface> = next
            .config
            .interfaces
            .iter()
            .filter(|interface| !self.loaded.config.interfaces.contains(interface))
            .cloned()
            .collect();
        if !wanted.is_empty() {
            self.links = self.network.links().await.map_err(|error| {
                ApiError::internal(format!("cannot read the interfaces: {error:#}"), "try again")
            })?;
        }
        let anew = self
            .check_positions(&next.config.interfaces)
            .and_then(|()| self.attach_all(&wanted))
            .map_err(|error| not_attached(&error))?;
        let before = std::mem::replace(&mut self.loaded, next);
        self.overrule_peers(&before.config, cause);
        // Backends behind an interface that is new need its row; those that are no longer named keep theirs to the end.
        self.publish_interfaces();
        self.prober.configure(Instant::now().into_std(), &self.loaded.config);
        self.keep_serving();
        self.resolve_backends().await;
        if let Err(error) = self.reconcile(cause).and_then(|()| self.turn_all()) {
            let message = format!("the change can't be applied: {error:#}");
            self.take_back(&anew);
            self.undo(before, cause.clone()).await;
            return Err(ApiError::conflict(message, "nothing was changed"));
        }
        self.metrics_listener.switch(listen, bound, &self.commands);
        if let Err(error) = self.look_at_interfaces().await {
            tracing::warn!(error = %format!("{error:#}"), "cannot read the interfaces");
        }
        self.update_ha_or_warn();
        self.update_sync();
        Ok(())
    }

    /// What an operator says here of a service that this node is active for is newer than what any peer said.
    fn overrule_peers(&mut self, before: &Config, cause: &Cause) {
        let mut beliefs = std::mem::take(&mut self.sync.beliefs);
        beliefs.overrule_changed(before, &self.loaded.config, |service| self.is_own(service));
        if let Cause::Command(change) = cause
            && let (service, backend) = change.subject()
            && let Some(key) = self.loaded.config.service(service).map(ServiceKey::from)
            && self.is_own(&key)
        {
            // Also if the file says so already, and only the peer had said something else.
            beliefs.overrule(&key, backend);
        }
        self.sync.beliefs = beliefs;
    }

    /// A backend that serves and whose service gets a check, or another name, serves until the check says otherwise:
    /// nothing is known against it.
    fn keep_serving(&mut self) {
        let now = self.prober.verdicts();
        let mut serving = verdicts_in_force(&self.loaded.config, &self.actual);
        serving.retain(|key, verdict| {
            *verdict == Verdict::Up && now.get(key).is_none_or(|now| *now == Verdict::Unknown)
        });
        self.prober.adopt(&serving);
    }

    /// Goes back to an earlier configuration, since what `cause` says could not be completed.
    async fn undo(&mut self, before: Loaded, cause: Cause) {
        self.loaded = before;
        self.prober.configure(Instant::now().into_std(), &self.loaded.config);
        self.keep_serving();
        if let Err(error) = self.turn_all() {
            tracing::error!(error = %format!("{error:#}"), "an interface does not go back to its role");
        }
        self.resolve_backends().await;
        self.reconcile_or_warn(&Cause::Undone(Box::new(cause)));
        self.forget_interfaces();
        self.join_groups();
        self.update_ha_or_warn();
        self.update_sync();
    }
}

/// An interface that a configuration names anew, or in another mode, and that can't be had.
fn not_attached(error: &anyhow::Error) -> ApiError {
    match error.downcast_ref::<ApiError>() {
        Some(error) => error.clone(),
        None => ApiError::conflict(
            format!("{error:#}"),
            "nothing was changed; mend the interface or the file and reload again",
        ),
    }
}

/// What a limit that can't change is fixed in, and how it is changed nevertheless.
const OF_MAPS: [&str; 3] = [
    "in the running maps",
    "their sizes are fixed when they are made",
    "`fairlead stop --detach` and start anew, which picks all flows anew",
];
const OF_PROGRAM: [&str; 3] = [
    "in the running program",
    "it is fixed when the program is loaded",
    "start the daemon again, which loads the program again and keeps all flows",
];

/// Limits size the maps, which are made once, or are frozen into the program.
fn changed_limits(now: &Limits, next: &Limits, text: &str) -> Vec<Problem> {
    let number = |key: &str, now: u32, next: u32| (key.to_owned(), now.to_string(), next.to_string());
    let all = [
        number("services", now.services, next.services),
        number("backends", now.backends, next.backends),
        number("flows", now.flows, next.flows),
        number("table_slots", now.table_slots, next.table_slots),
        ("flow_tuples".to_owned(), now.flow_tuples.to_string(), next.flow_tuples.to_string()),
    ];
    let all = all.into_iter().map(|limit| (limit, OF_MAPS));
    let rate = number("new_flows_per_second", now.new_flows_per_second, next.new_flows_per_second);
    all.chain([(rate, OF_PROGRAM)])
        .filter(|((_, now, next), _)| now != next)
        .map(|((key, now, next), [place, why, how])| Problem {
            line: config::line_of(text, &format!("limits.{key}")),
            key: format!("limits.{key}"),
            reason: format!("is {now} {place} and can't become {next}: {why}"),
            remedy: format!("set it back, or {how}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_limit_is_named_with_both_values() {
        let now = Limits::default();
        let next = Limits { flows: now.flows * 2, ..now.clone() };
        let problems = changed_limits(&now, &next, "# Sizes\n[limits]\nflows = 2097152\n");
        assert_eq!(problems.len(), 1);
        assert_eq!((problems[0].line, problems[0].key.as_str()), (Some(3), "limits.flows"));
        assert!(problems[0].reason.contains("1048576") && problems[0].reason.contains("2097152"));
        assert!(changed_limits(&now, &now, "").is_empty());
    }

    #[test]
    fn the_rate_of_new_flows_changes_with_a_start_that_keeps_flows() {
        let now = Limits::default();
        let next = Limits { new_flows_per_second: 7, ..now.clone() };
        let [problem] = &changed_limits(&now, &next, "[limits]\nnew_flows_per_second = 7\n")[..] else {
            panic!("one key changed");
        };
        assert_eq!((problem.line, problem.key.as_str()), (Some(2), "limits.new_flows_per_second"));
        assert!(problem.reason.contains("500000") && problem.reason.contains("can't become 7"), "{problem}");
        assert!(problem.remedy.contains("keeps all flows"), "{problem}");
    }
}

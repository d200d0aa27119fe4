//! The task that carries out what the state machine decides.
//!
//! Steps at the server are futures beside the loop, so that a slow server never
//! keeps the loop from noticing that the connection is lost. Each carries the
//! number of its run; what a run of before answers is dropped with it.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use opcua::types::StatusCode;
use tokio::sync::{mpsc, watch};

use super::active::{Active, Done};
use super::outlet::Outlet;
use super::receiving::{Flow, Parcel};
use super::steps::{self, Frame, LINKED_MAX, Linked, Stream, Subscribed};
use super::subscribing::{self, Answers, value_of};
use super::trust_list::TrustList;
use super::waiting::{sleep_until, stopped};
use super::{Notice, WriteError, WriteRequest, writing};
use crate::batch::Batch;
use crate::items::Refusal;
use crate::run::{Command, Run};
use crate::sequence::REPUBLISH_MAX;
use crate::settings::Settings;
use crate::value::{Value, status_name};

/// The driver of one session.
pub(super) struct Driver {
    watched: watch::Receiver<Arc<Settings>>,
    settings: Arc<Settings>,
    outlet: Outlet,
    flow: Arc<Flow>,
    seed: u64,
    run: Run,
    batch: Batch,
    /// The number of the run or of the subscription that was made last.
    number: u64,
    linked: mpsc::Receiver<Linked>,
    active: Active,
    steps: FuturesUnordered<BoxFuture<'static, Done>>,
    dropped: u64,
    trust: TrustList,
}

impl Driver {
    pub(super) fn new(
        mut watched: watch::Receiver<Arc<Settings>>,
        parcels: mpsc::Sender<Parcel>,
        flow: Arc<Flow>,
        seed: u64,
    ) -> Self {
        let settings = Arc::clone(&watched.borrow_and_update());
        Self {
            run: Run::new(settings.pace(), Instant::now(), seed),
            batch: Batch::new(settings.batch),
            // Nothing is sent into it until a run is started.
            linked: mpsc::channel(1).1,
            watched,
            settings,
            outlet: Outlet::new(parcels),
            flow,
            seed,
            number: 0,
            active: Active::default(),
            steps: FuturesUnordered::new(),
            dropped: 0,
            trust: TrustList::default(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut writes: mpsc::Receiver<WriteRequest>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            while let Some(command) = self.run.next_command() {
                self.carry_out(command).await;
            }
            let timeout = self.next_timeout();
            tokio::select! {
                // A link has to be known before what it says.
                biased;
                () = stopped(&mut stop) => break,
                Some(done) = self.steps.next() => self.handle_done(done).await,
                Some(linked) = self.linked.recv() => self.handle_linked(linked),
                Some(request) = writes.recv() => self.write(request),
                changed = self.watched.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.reconfigure().await;
                }
                () = sleep_until(timeout) => self.handle_timeout(),
            }
        }
        self.close().await;
    }

    fn next_timeout(&self) -> Option<Instant> {
        let retry = self
            .active
            .subscribed
            .as_ref()
            .filter(|_| !self.active.is_retrying);
        let retry = retry.and_then(|subscribed| subscribed.items.next_timeout());
        let retry = retry.filter(|_| self.run.is_live());
        let timeouts = [self.run.next_timeout(), retry, self.trust.next_timeout()];
        timeouts.into_iter().flatten().min()
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        if self.trust.has_news(&self.settings.pki, now) {
            self.run.handle_wish(now);
        }
        self.run.handle_timeout(now);
        self.retry_refused(now);
    }

    async fn carry_out(&mut self, command: Command) {
        match command {
            Command::Start => self.start(),
            Command::Reconnect => {
                if let Some(link) = &self.active.link {
                    link.permit.notify_one();
                    self.watch_reconnect();
                }
            }
            Command::Resume { is_new_session } => self.resume(is_new_session),
            Command::TriggerPublish => {
                if let Some(link) = &self.active.link {
                    link.session.trigger_publish_now();
                }
            }
            Command::Reread => self.reread(),
            Command::MarkAway => self.outlet.send(Parcel::Away).await,
            Command::End => self.end(),
            Command::Report(standing) => self.outlet.notice(Notice::Standing(standing)).await,
        }
    }

    /// Drops everything of the run. What is under way ends with it.
    fn end(&mut self) {
        self.steps = FuturesUnordered::new();
        self.active = Active::default();
        self.linked = mpsc::channel(1).1;
    }

    fn start(&mut self) {
        self.end();
        self.trust = TrustList::of(&self.settings.pki);
        let (sender, linked) = mpsc::channel(LINKED_MAX);
        self.linked = linked;
        let settings = Arc::clone(&self.settings);
        self.steps.push(Box::pin(async move {
            Done::Linked(steps::link(&settings, sender).await)
        }));
    }

    fn frame(&mut self) -> Frame {
        self.number += 1;
        Frame {
            settings: Arc::clone(&self.settings),
            parcels: self.outlet.sender(),
            flow: Arc::clone(&self.flow),
            number: self.number,
            batch: self.batch,
        }
    }

    fn resume(&mut self, is_new_session: bool) {
        let Some(stream) = self.stream() else {
            return;
        };
        let before = self.active.namespaces.clone();
        self.steps.push(Box::pin(async move {
            Done::Resumed(stream.resume(is_new_session, before).await)
        }));
    }

    /// The subscription in use, for a step.
    fn stream(&self) -> Option<Stream> {
        let (link, subscribed) = (self.active.link.as_ref()?, self.active.subscribed.as_ref()?);
        Some(Stream {
            session: Arc::clone(&link.session),
            id: subscribed.id,
            number: subscribed.number,
            progress: Arc::clone(&subscribed.progress),
            flow: Arc::clone(&self.flow),
            parcels: self.outlet.sender(),
        })
    }

    fn handle_linked(&mut self, linked: Linked) {
        let now = Instant::now();
        match linked {
            Linked::Published => {
                self.run.handle_publish(now);
                self.look_after();
            }
            Linked::Lost(status) => self.run.handle_lost(now, status_name(status)),
            Linked::ReconnectFailed(status) => {
                self.run.handle_reconnect_failed(now, status_name(status));
                let answers =
                    !matches!(status, StatusCode::BadNotConnected | StatusCode::BadTimeout);
                if answers {
                    self.compare_server();
                }
            }
            Linked::Ended(status) => self.run.handle_failed(now, status_name(status)),
            Linked::Reconnected(how) => {
                // The first connect of a run goes on with its subscription.
                if self.active.subscribed.is_some() {
                    self.run.handle_reconnected(now, how);
                } else if let Some(link) = &self.active.link {
                    let session = Arc::clone(&link.session);
                    let frame = self.frame();
                    self.steps.push(Box::pin(async move {
                        Done::Begun(steps::begin(session, frame).await)
                    }));
                }
            }
        }
    }

    /// The library waits half a minute for a server that takes the connection and
    /// then says nothing, which is how some treat a client of another server.
    fn watch_reconnect(&mut self) {
        if std::mem::replace(&mut self.active.is_watching, true) {
            return;
        }
        let patience = self.settings.request_timeout;
        self.steps.push(Box::pin(async move {
            tokio::time::sleep(patience).await;
            Done::Overdue
        }));
    }

    /// Something is at the address and does not take the session back: a server
    /// that was replaced never will, and its certificate is for a person to judge.
    fn compare_server(&mut self) {
        let Some(link) = self.active.link.as_ref() else {
            return;
        };
        if std::mem::replace(&mut self.active.is_comparing, true) {
            return;
        }
        let (settings, session) = (Arc::clone(&self.settings), Arc::clone(&link.session));
        self.steps.push(Box::pin(async move {
            Done::Compared(steps::is_another(&settings, &session).await)
        }));
    }

    /// What a publish response may have brought to light.
    fn look_after(&mut self) {
        let now = Instant::now();
        let subscribed = self.active.subscribed.as_ref();
        if let Some(status) = subscribed.and_then(|subscribed| subscribed.progress.ended()) {
            let reason = format!("the server ended the subscription: {}", status_name(status));
            self.run.handle_failed(now, &reason);
            return;
        }
        if self.flow.take_overflow() {
            self.reread();
        }
        self.republish();
        self.retry_refused(now);
    }

    async fn handle_done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Linked(Ok((link, notices))) => {
                self.active.link = Some(link);
                for notice in notices {
                    self.outlet.notice(notice).await;
                }
            }
            Done::Linked(Err(error)) => {
                self.trust.report(&error, &self.outlet).await;
                self.run.handle_failed(now, &error.to_string());
            }
            Done::Begun(Ok(begun)) => {
                self.active.namespaces = begun.namespaces;
                self.batch = begun.batch;
                self.adopt(begun.subscribed).await;
                self.run.handle_started(now);
                self.replace_if_changed();
            }
            Done::Begun(Err(reason)) => self.run.handle_failed(now, &reason),
            Done::Resumed(Ok(())) => {
                self.run.handle_resumed(now);
                self.replace_if_changed();
            }
            Done::Resumed(Err(reason)) => self.run.handle_failed(now, &reason),
            Done::Replaced(replaced) => self.handle_replaced(now, replaced).await,
            Done::Retried(number, asked, answers) => {
                self.handle_retried(number, &asked, answers).await;
            }
            Done::Reread(number, values) => {
                self.active.is_rereading = false;
                // A lost connection reads again when it is back.
                if let Ok(values) = values {
                    self.outlet.send(Parcel::Read(number, values)).await;
                }
                let dropped = self.flow.dropped();
                if dropped > self.dropped {
                    self.dropped = dropped;
                    self.outlet.notice(Notice::Dropped { total: dropped }).await;
                }
            }
            Done::Republished { asked, found } => {
                self.active.is_republishing = false;
                let messages = asked.saturating_sub(found);
                if messages > 0 {
                    self.reread();
                    self.outlet.notice(Notice::Lost { messages }).await;
                }
            }
            Done::Dismissed(number) => {
                self.outlet.send(Parcel::Closed(number)).await;
                self.active.is_replacing = false;
                self.replace_if_changed();
            }
            Done::Overdue => {
                self.active.is_watching = false;
                if self.run.is_away() {
                    self.compare_server();
                }
            }
            Done::Compared(is_another) => {
                self.active.is_comparing = false;
                if is_another {
                    let reason = "the server has another certificate than before";
                    self.run.handle_failed(now, reason);
                }
            }
            Done::Written => {}
        }
    }

    /// Takes a subscription over that is complete.
    async fn adopt(&mut self, mut subscribed: Subscribed) {
        let refused = std::mem::take(&mut subscribed.refused);
        let items = &subscribed.items;
        let names: Vec<Arc<str>> = items
            .all()
            .iter()
            .map(|item| Arc::clone(&item.name))
            .collect();
        let notice = Notice::Nodes {
            names: names.clone(),
            refused: items.refused(),
            is_cut: subscribed.is_cut,
        };
        let (number, total) = (subscribed.number, items.refused());
        self.active.subscribed = Some(subscribed);
        self.outlet.notice(notice).await;
        self.report_refused(number, refused, &names, total).await;
    }

    async fn report_refused(
        &mut self,
        number: u64,
        refused: Vec<Refusal>,
        names: &[Arc<str>],
        total: usize,
    ) {
        let Some(first) = refused.first() else {
            return;
        };
        let notice = Notice::Refused {
            first: (Arc::clone(&names[first.index]), first.status.to_string()),
            count: refused.len(),
            total,
        };
        self.outlet.notice(notice).await;
        self.outlet.send(Parcel::Refused(number, refused)).await;
    }

    fn retry_refused(&mut self, now: Instant) {
        let has_filter = self.settings.server_deadband;
        let mut batch = self.batch;
        let active = &mut self.active;
        let (Some(link), Some(subscribed)) = (&active.link, &active.subscribed) else {
            return;
        };
        let due = subscribed.items.due(now);
        if due.is_empty() || active.is_retrying || !self.run.is_live() {
            return;
        }
        active.is_retrying = true;
        let all = subscribed.items.all();
        let items: Vec<_> = due
            .into_iter()
            .map(|index| (index, all[index].clone()))
            .collect();
        let session = Arc::clone(&link.session);
        let (id, number) = (subscribed.id, subscribed.number);
        self.steps.push(Box::pin(async move {
            let monitored = subscribing::monitor(&session, id, &items, has_filter, &mut batch);
            let answers = monitored.await;
            let asked = items.into_iter().map(|(index, _)| index).collect();
            Done::Retried(number, asked, answers)
        }));
    }

    async fn handle_retried(
        &mut self,
        number: u64,
        asked: &[usize],
        answers: Result<Answers, StatusCode>,
    ) {
        self.active.is_retrying = false;
        let subscribed = self.active.subscribed.as_mut();
        let Some(subscribed) = subscribed.filter(|subscribed| subscribed.number == number) else {
            return;
        };
        // A request that failed as a whole is tried again after the pauses of
        // its items.
        let answers = answers.unwrap_or_else(|status| Answers::refusing(asked, status));
        let news = answers.apply(&mut subscribed.items, Instant::now());
        let items = subscribed.items.all();
        let names: Vec<Arc<str>> = items.iter().map(|item| Arc::clone(&item.name)).collect();
        let total = subscribed.items.refused();
        let notice = Notice::Nodes {
            names: names.clone(),
            refused: total,
            is_cut: subscribed.is_cut,
        };
        self.outlet.notice(notice).await;
        self.report_refused(number, news, &names, total).await;
    }

    fn reread(&mut self) {
        let active = &mut self.active;
        let (Some(link), Some(subscribed)) = (&active.link, &active.subscribed) else {
            return;
        };
        if active.is_rereading {
            return;
        }
        active.is_rereading = true;
        let (indexes, asked): (Vec<usize>, Vec<_>) = subscribed
            .items
            .active()
            .map(|(index, node)| (index, value_of(node)))
            .unzip();
        let session = Arc::clone(&link.session);
        let (number, mut batch) = (subscribed.number, self.batch);
        self.steps.push(Box::pin(async move {
            let read = subscribing::read(&session, &asked, &mut batch).await;
            Done::Reread(
                number,
                read.map(|values| indexes.into_iter().zip(values).collect()),
            )
        }));
    }

    fn republish(&mut self) {
        let Some(stream) = self.stream().filter(|_| !self.active.is_republishing) else {
            return;
        };
        let missing = stream.progress.take_missing();
        if missing.is_empty() {
            return;
        }
        self.active.is_republishing = true;
        self.steps.push(Box::pin(async move {
            let asked = missing.iter().map(|(_, count)| count).sum();
            let mut found = 0;
            for (first, count) in missing {
                let count = count.min(REPUBLISH_MAX);
                match stream.republish(first, count).await {
                    Ok(came) => found += came,
                    // The link is lost; what is missing is missing.
                    Err(_) => break,
                }
            }
            Done::Republished { asked, found }
        }));
    }

    fn write(&mut self, request: WriteRequest) {
        let WriteRequest { name, value, reply } = request;
        let node = self.active.subscribed.as_ref().and_then(|subscribed| {
            let mut all = subscribed.items.all().iter();
            all.find(|item| item.name == name)?.node.clone()
        });
        let link = self.active.link.as_ref().filter(|_| self.run.is_live());
        let (Some(node), Some(link)) = (node, link) else {
            // Whoever does not wait any more does not care.
            let _ = reply.send(Err(WriteError::NotConnected));
            return;
        };
        let session = Arc::clone(&link.session);
        self.steps.push(Box::pin(async move {
            let written: Result<Value, WriteError> = writing::write(&session, &node, &value).await;
            let _ = reply.send(written);
            Done::Written
        }));
    }

    async fn reconfigure(&mut self) {
        let settings = Arc::clone(&self.watched.borrow_and_update());
        let keeps = settings.keeps_session_of(&self.settings);
        self.settings = settings;
        if !keeps {
            self.close().await;
            self.end();
            self.outlet.send(Parcel::Away).await;
            self.run = Run::new(self.settings.pace(), Instant::now(), self.seed);
            return;
        }
        self.replace_if_changed();
    }

    /// Makes a subscription with the settings of now beside the one of before,
    /// when that was made for others. Looked at whenever one is complete or is
    /// back, so that no change is missed.
    fn replace_if_changed(&mut self) {
        let subscribed = self.active.subscribed.as_ref();
        let is_current =
            subscribed.is_none_or(|subscribed| Arc::ptr_eq(&subscribed.settings, &self.settings));
        if is_current || self.active.is_replacing || !self.run.is_live() {
            return;
        }
        let Some(link) = &self.active.link else {
            return;
        };
        let session = Arc::clone(&link.session);
        let namespaces = self.active.namespaces.clone();
        self.active.is_replacing = true;
        let frame = self.frame();
        self.steps.push(Box::pin(async move {
            Done::Replaced(steps::replace(&session, &namespaces, frame).await)
        }));
    }

    async fn handle_replaced(
        &mut self,
        now: Instant,
        replaced: Result<(Subscribed, Batch), String>,
    ) {
        let (subscribed, batch) = match replaced {
            Ok(replaced) => replaced,
            Err(reason) => {
                self.run.handle_failed(now, &reason);
                return;
            }
        };
        self.batch = batch;
        let before = self.active.subscribed.take();
        self.adopt(subscribed).await;
        if let (Some(link), Some(before)) = (&self.active.link, before) {
            let session = Arc::clone(&link.session);
            self.steps.push(Box::pin(async move {
                steps::dismiss(&session, before.id, &before.settings).await;
                Done::Dismissed(before.number)
            }));
        } else {
            self.active.is_replacing = false;
        }
    }

    /// Ends the session at the server, if it answers.
    async fn close(&mut self) {
        if let Some(link) = &self.active.link {
            steps::close(&link.session, &mut self.linked).await;
        }
        self.active = Active::default();
    }
}

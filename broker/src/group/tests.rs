//! Scripts: one input, the effects it causes, then time moves on.

use super::*;

const SESSION_MS: u64 = 10_000;
const REBALANCE_MS: u64 = 60_000;

struct Script {
    coordinator: Coordinator,
    now_ms: u64,
    next_waiter: u64,
}

impl Script {
    fn new(initial_delay_ms: u64) -> Self {
        let timing = GroupTiming {
            initial_delay_ms,
            ..GroupTiming::default()
        };
        Self {
            coordinator: Coordinator::new(timing),
            now_ms: 1_000_000,
            next_waiter: 0,
        }
    }

    fn waiter(&mut self) -> Waiter {
        self.next_waiter += 1;
        Waiter(self.next_waiter)
    }

    /// Joins and returns the waiter; a first join gets the id `new`.
    fn join(&mut self, request: JoinRequest, new: &str) -> Waiter {
        let waiter = self.waiter();
        self.coordinator
            .handle_join(self.now_ms, waiter, request, new.to_owned());
        waiter
    }

    fn sync(
        &mut self,
        member: &str,
        generation: i32,
        assignments: &[(&str, &'static [u8])],
    ) -> Waiter {
        let waiter = self.waiter();
        let request = SyncRequest {
            group_id: "g".into(),
            generation,
            member_id: member.into(),
            assignments: assignments
                .iter()
                .map(|(id, b)| ((*id).to_owned(), Bytes::from_static(b)))
                .collect(),
            ..SyncRequest::default()
        };
        self.coordinator.handle_sync(self.now_ms, waiter, &request);
        waiter
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        self.coordinator
            .handle_heartbeat(self.now_ms, "g", generation, member_identity(member))
    }

    fn leave(&mut self, member: &str) -> Result<(), GroupError> {
        self.coordinator
            .handle_leave(self.now_ms, "g", member_identity(member))
    }

    fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        self.coordinator.handle_timeout(self.now_ms);
    }

    /// Moves to the next deadline the coordinator asks for.
    fn advance_to_timeout(&mut self) {
        self.now_ms = self
            .coordinator
            .next_timeout_ms()
            .expect("a deadline exists");
        self.coordinator.handle_timeout(self.now_ms);
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.coordinator.poll_effect()).collect()
    }

    fn joined(&mut self) -> Vec<(Waiter, Result<Joined, JoinRefused>)> {
        let join = |effect| match effect {
            Effect::AnswerJoin { waiter, result } => (waiter, result),
            Effect::AnswerSync { .. } => panic!("unexpected {effect:?}"),
        };
        self.effects().into_iter().map(join).collect()
    }

    fn state(&self) -> &'static str {
        self.coordinator
            .describe("g")
            .expect("the group exists")
            .state
    }

    /// A stable group of the dynamic members `a` (leader) and `b`, generation 2.
    fn stable_pair() -> Self {
        let mut script = Self::new(0);
        script.join(join(""), "a");
        script.join(join(""), "b");
        script.join(join("a"), "");
        script.effects();
        script.sync("a", 2, &[("a", b"A"), ("b", b"B")]);
        script.sync("b", 2, &[]);
        script.effects();
        assert_eq!(script.state(), "Stable");
        script
    }
}

fn member_identity(member_id: &str) -> Identity<'_> {
    Identity {
        member_id,
        instance_id: None,
    }
}

fn join(member_id: &str) -> JoinRequest {
    JoinRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"sub"))],
        ..JoinRequest::default()
    }
}

fn static_join(instance: &str) -> JoinRequest {
    JoinRequest {
        instance_id: Some(instance.into()),
        ..join("")
    }
}

fn refused(error: GroupError, member_id: &str) -> Result<Joined, JoinRefused> {
    Err(JoinRefused {
        error,
        member_id: member_id.into(),
    })
}

fn synced(waiter: Waiter, assignment: &'static [u8]) -> Effect {
    let result = Synced {
        protocol_type: "consumer".into(),
        protocol: "range".into(),
        assignment: Bytes::from_static(assignment),
    };
    Effect::AnswerSync {
        waiter,
        result: Ok(result),
    }
}

#[test]
fn a_single_member_becomes_leader_and_gets_its_own_assignment() {
    let mut script = Script::new(0);
    let waiter = script.join(join(""), "a");
    let member = JoinedMember {
        member_id: "a".into(),
        instance_id: None,
        metadata: Bytes::from_static(b"sub"),
    };
    let expected = Joined {
        generation: 1,
        protocol_type: "consumer".into(),
        protocol: "range".into(),
        leader: "a".into(),
        member_id: "a".into(),
        members: vec![member],
        skip_assignment: false,
    };
    assert_eq!(script.joined(), [(waiter, Ok(expected))]);
    let waiter = script.sync("a", 1, &[("a", b"all")]);
    assert_eq!(script.effects(), [synced(waiter, b"all")]);
    assert_eq!(script.heartbeat("a", 1), Ok(()));
}

#[test]
fn the_initial_delay_gathers_members_that_start_together() {
    let mut script = Script::new(200);
    let a = script.join(join(""), "a");
    script.advance(150);
    let b = script.join(join(""), "b");
    assert_eq!(script.effects(), []);
    script.advance(199);
    assert_eq!(script.effects(), [], "the second join restarts the delay");
    script.advance_to_timeout();
    let joined = script.joined();
    assert_eq!(joined.iter().map(|(w, _)| *w).collect::<Vec<_>>(), [a, b]);
    assert!(
        joined
            .iter()
            .all(|(_, result)| result.as_ref().is_ok_and(|j| j.generation == 1))
    );
}

#[test]
fn a_member_must_come_back_with_its_id() {
    let mut script = Script::new(0);
    let request = JoinRequest {
        requires_member_id: true,
        ..join("")
    };
    let first = script.join(request, "a");
    assert_eq!(
        script.joined(),
        [(first, refused(GroupError::MemberIdRequired, "a"))]
    );
    let second = script.join(
        JoinRequest {
            requires_member_id: true,
            ..join("a")
        },
        "",
    );
    assert!(matches!(&script.joined()[..], [(waiter, Ok(_))] if *waiter == second));
}

#[test]
fn a_pending_id_expires_with_the_session() {
    let mut script = Script::new(0);
    script.join(
        JoinRequest {
            requires_member_id: true,
            ..join("")
        },
        "a",
    );
    script.advance(SESSION_MS);
    script.effects();
    let late = script.join(join("a"), "");
    assert_eq!(
        script.joined(),
        [(late, refused(GroupError::UnknownMember, "a"))]
    );
}

#[test]
fn the_barrier_waits_for_every_member_then_opens() {
    let mut script = Script::new(0);
    script.join(join(""), "a");
    script.effects();
    script.sync("a", 1, &[("a", b"A")]);
    script.effects();
    let b = script.join(join(""), "b");
    assert_eq!(script.effects(), [], "b waits for a");
    assert_eq!(
        script.heartbeat("a", 1),
        Err(GroupError::RebalanceInProgress)
    );
    let a = script.join(join("a"), "");
    let joined = script.joined();
    assert_eq!(joined.iter().map(|(w, _)| *w).collect::<Vec<_>>(), [a, b]);
    let counts: Vec<_> = joined
        .iter()
        .map(|(_, r)| r.as_ref().map(|j| (j.generation, j.members.len())))
        .collect();
    assert_eq!(
        counts,
        [Ok((2, 2)), Ok((2, 0))],
        "the leader keeps its role and gets the list"
    );
}

#[test]
fn the_barrier_opens_without_members_that_miss_the_deadline() {
    let mut script = Script::stable_pair();
    script.join(join(""), "c");
    script.now_ms += 1;
    assert_eq!(
        script.heartbeat("a", 2),
        Err(GroupError::RebalanceInProgress)
    );
    script.join(join("b"), "");
    for _ in 0..7 {
        script.now_ms += SESSION_MS - 1;
        let _ = script.heartbeat("a", 2);
        script.coordinator.handle_timeout(script.now_ms);
    }
    let members: Vec<_> = script
        .joined()
        .into_iter()
        .map(|(_, r)| r.expect("both are in").member_id)
        .collect();
    assert_eq!(members, ["b", "c"]);
    assert_eq!(script.heartbeat("a", 2), Err(GroupError::UnknownMember));
}

#[test]
fn a_silent_member_is_dropped_and_the_others_rebalance() {
    let mut script = Script::stable_pair();
    script.now_ms += SESSION_MS - 1;
    assert_eq!(script.heartbeat("a", 2), Ok(()));
    script.advance(1);
    assert_eq!(script.heartbeat("b", 2), Err(GroupError::UnknownMember));
    assert_eq!(
        script.heartbeat("a", 2),
        Err(GroupError::RebalanceInProgress)
    );
    script.join(join("a"), "");
    assert!(
        matches!(&script.joined()[..], [(_, Ok(j))] if j.generation == 3 && j.members.len() == 1)
    );
}

#[test]
fn a_member_that_leaves_triggers_a_rebalance_and_the_last_one_empties_the_group() {
    let mut script = Script::stable_pair();
    assert_eq!(script.leave("a"), Ok(()));
    assert_eq!(script.state(), "PreparingRebalance");
    assert_eq!(script.leave("a"), Err(GroupError::UnknownMember));
    assert_eq!(script.leave("b"), Ok(()));
    assert_eq!(script.state(), "Empty");
    assert_eq!(script.coordinator.handle_delete("g"), Ok(()));
    assert_eq!(
        script.coordinator.handle_delete("g"),
        Err(GroupError::NotFound)
    );
}

#[test]
fn a_group_with_members_is_not_deleted() {
    let mut script = Script::stable_pair();
    assert_eq!(
        script.coordinator.handle_delete("g"),
        Err(GroupError::NotEmpty)
    );
}

#[test]
fn followers_wait_for_the_leaders_assignment() {
    let mut script = Script::new(0);
    script.join(join(""), "a");
    script.join(join(""), "b");
    script.join(join("a"), "");
    script.effects();
    let b = script.sync("b", 2, &[]);
    assert_eq!(script.effects(), []);
    let a = script.sync("a", 2, &[("a", b"A"), ("b", b"B")]);
    assert_eq!(script.effects(), [synced(a, b"A"), synced(b, b"B")]);
}

#[test]
fn a_leader_that_never_syncs_is_dropped_at_the_deadline() {
    let mut script = Script::new(0);
    script.join(join(""), "a");
    script.join(join(""), "b");
    script.join(join("a"), "");
    script.effects();
    let b = script.sync("b", 2, &[]);
    for _ in 0..(REBALANCE_MS / 5_000) {
        script.now_ms += 5_000;
        let _ = script.heartbeat("a", 2);
        script.coordinator.handle_timeout(script.now_ms);
    }
    let expected = Effect::AnswerSync {
        waiter: b,
        result: Err(GroupError::RebalanceInProgress),
    };
    assert_eq!(script.effects(), [expected]);
    assert_eq!(script.heartbeat("a", 2), Err(GroupError::UnknownMember));
}

#[test]
fn a_wrong_generation_is_refused_everywhere() {
    let mut script = Script::stable_pair();
    assert_eq!(script.heartbeat("a", 1), Err(GroupError::IllegalGeneration));
    let now_ms = script.now_ms;
    let commit = script
        .coordinator
        .handle_commit(now_ms, "g", 1, member_identity("a"));
    assert_eq!(commit, Err(GroupError::IllegalGeneration));
    let waiter = script.sync("a", 1, &[]);
    let expected = Effect::AnswerSync {
        waiter,
        result: Err(GroupError::IllegalGeneration),
    };
    assert_eq!(script.effects(), [expected]);
}

#[test]
fn commits_need_a_member_unless_the_group_is_empty() {
    let mut script = Script::stable_pair();
    let mut commit = |group: &str, generation, member: &'static str| {
        script
            .coordinator
            .handle_commit(0, group, generation, member_identity(member))
    };
    assert_eq!(commit("g", 2, "b"), Ok(()));
    assert_eq!(commit("g", -1, ""), Err(GroupError::UnknownMember));
    assert_eq!(commit("other", -1, ""), Ok(()));
    assert_eq!(commit("other", 3, "a"), Err(GroupError::IllegalGeneration));
    assert_eq!(commit("", -1, ""), Err(GroupError::InvalidGroupId));
}

#[test]
fn a_restarted_static_member_keeps_its_assignment_without_a_rebalance() {
    let mut script = Script::new(0);
    script.join(static_join("i1"), "a1");
    script.join(static_join("i2"), "b1");
    let rejoin = JoinRequest {
        member_id: "a1".into(),
        ..static_join("i1")
    };
    script.join(rejoin, "");
    script.effects();
    script.sync("a1", 2, &[("a1", b"A"), ("b1", b"B")]);
    script.sync("b1", 2, &[]);
    script.effects();
    script.join(static_join("i2"), "b2");
    let joined = script.joined();
    assert!(
        matches!(&joined[..], [(_, Ok(j))] if j.generation == 2 && j.member_id == "b2" && j.leader == "a1")
    );
    let waiter = script.sync("b2", 2, &[]);
    assert_eq!(script.effects(), [synced(waiter, b"B")]);
    let old = Identity {
        member_id: "b1",
        instance_id: Some("i2"),
    };
    let now_ms = script.now_ms;
    assert_eq!(
        script.coordinator.handle_heartbeat(now_ms, "g", 2, old),
        Err(GroupError::FencedInstance)
    );
    assert_eq!(script.heartbeat("a1", 2), Ok(()));
}

#[test]
fn a_restarted_static_leader_is_told_to_skip_or_sees_the_old_leader() {
    for can_skip_assignment in [true, false] {
        let mut script = Script::new(0);
        script.join(static_join("i1"), "a1");
        script.effects();
        script.sync("a1", 1, &[("a1", b"A")]);
        script.effects();
        script.join(
            JoinRequest {
                can_skip_assignment,
                ..static_join("i1")
            },
            "a2",
        );
        let joined = script.joined();
        let [(_, Ok(joined))] = &joined[..] else {
            panic!("{joined:?}")
        };
        assert_eq!(joined.skip_assignment, can_skip_assignment);
        assert_eq!(joined.leader, if can_skip_assignment { "a2" } else { "a1" });
    }
}

#[test]
fn a_static_member_that_leaves_by_instance_id_is_removed() {
    let mut script = Script::new(0);
    script.join(static_join("i1"), "a1");
    script.effects();
    let by_instance = Identity {
        member_id: "",
        instance_id: Some("i1"),
    };
    let now_ms = script.now_ms;
    assert_eq!(
        script.coordinator.handle_leave(now_ms, "g", by_instance),
        Ok(())
    );
    assert_eq!(script.state(), "Empty");
}

#[test]
fn protocols_must_overlap_and_the_majority_wins() {
    let with = |member: &str, names: &[&str]| JoinRequest {
        protocols: names
            .iter()
            .map(|name| ((*name).to_owned(), Bytes::new()))
            .collect(),
        ..join(member)
    };
    let mut script = Script::new(100);
    script.join(with("", &["range", "sticky"]), "a");
    script.join(with("", &["sticky", "range"]), "b");
    script.join(with("", &["sticky", "range"]), "c");
    let alien = script.join(with("", &["alien"]), "d");
    assert_eq!(
        script.joined(),
        [(alien, refused(GroupError::InconsistentProtocol, ""))]
    );
    script.advance_to_timeout();
    assert!(
        script
            .joined()
            .iter()
            .all(|(_, r)| r.as_ref().is_ok_and(|j| j.protocol == "sticky"))
    );
}

#[test]
fn a_follower_with_the_same_subscription_rejoins_without_a_rebalance() {
    let mut script = Script::stable_pair();
    script.join(join("b"), "");
    assert!(matches!(&script.joined()[..], [(_, Ok(j))] if j.generation == 2));
    assert_eq!(script.state(), "Stable");
    let changed = JoinRequest {
        protocols: vec![("range".into(), Bytes::from_static(b"more"))],
        ..join("b")
    };
    script.join(changed, "");
    assert_eq!(script.state(), "PreparingRebalance");
}

#[test]
fn session_timeouts_and_sizes_are_bounded() {
    let mut script = Script::new(0);
    let waiter = script.join(
        JoinRequest {
            session_timeout_ms: 1,
            ..join("")
        },
        "a",
    );
    assert_eq!(
        script.joined(),
        [(waiter, refused(GroupError::InvalidSessionTimeout, ""))]
    );
    let big = vec![(
        "range".to_owned(),
        Bytes::from(vec![0; MAX_MEMBER_METADATA_BYTES + 1]),
    )];
    let waiter = script.join(
        JoinRequest {
            protocols: big,
            ..join("")
        },
        "a",
    );
    assert_eq!(
        script.joined(),
        [(waiter, refused(GroupError::MetadataTooLarge, ""))]
    );
    for n in 0..MAX_MEMBERS {
        script.join(
            JoinRequest {
                requires_member_id: true,
                ..join("")
            },
            &format!("m{n}"),
        );
    }
    script.effects();
    let waiter = script.join(join(""), "one-more");
    assert_eq!(
        script.joined(),
        [(waiter, refused(GroupError::GroupFull, ""))]
    );
}

#[test]
fn an_empty_group_is_forgotten_after_a_while() {
    let mut script = Script::new(0);
    script.join(join(""), "a");
    assert_eq!(script.leave("a"), Ok(()));
    script.effects();
    script.advance(EMPTY_GROUP_KEPT_MS - 1);
    assert_eq!(script.state(), "Empty");
    script.advance(1);
    assert_eq!(script.coordinator.describe("g"), None);
    assert_eq!(script.coordinator.next_timeout_ms(), None);
}

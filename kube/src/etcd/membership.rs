//! How a machine becomes a member of etcd, and how it stops being one.
//!
//! [`next_step`] looks at what is (the data directory, the member list, the service) and names the
//! one thing to do now. It remembers nothing: whoever carries out a step may be killed before,
//! during or after it, and the next look at the facts finds the right step again. The one thing
//! facts do not tell is what was asked for (bootstrap, leave) and with which initial cluster etcd
//! was started; that is the [`Journal`].

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::args::{InitialCluster, initial_members};

/// A member as the cluster lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started once.
    pub client_urls: Vec<String>,
    /// Whether it follows without a vote.
    pub learner: bool,
}

/// What the data directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataDir {
    /// Nothing.
    #[default]
    Empty,
    /// Files, but no write-ahead log: etcd was killed at its first start before it had any data.
    Partial,
    /// A member's data.
    Initialized,
}

/// What was asked for and what was decided, kept until the machine boots again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// A new cluster shall start here.
    #[serde(default)]
    pub bootstrap: bool,
    /// How etcd was started for the first time. Kept as long as it runs, since different
    /// arguments would restart it.
    #[serde(default)]
    pub initial: Option<InitialCluster>,
    /// This machine shall leave the cluster.
    #[serde(default)]
    pub leave: Option<Leave>,
}

/// How far leaving has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// The cluster has been told and agreed.
    #[serde(default)]
    pub removed: bool,
    /// The cluster could not be asked in time; go without its consent.
    #[serde(default)]
    pub abandoned: bool,
}

/// What is known now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// This member's name.
    pub name: String,
    /// This member's peer URLs.
    pub peer_urls: Vec<String>,
    /// What its data directory holds.
    pub data: DataDir,
    /// Whether its service runs.
    pub running: bool,
    /// The member list, if any control-plane machine could be asked.
    pub members: Option<Vec<Member>>,
    /// Id of the leader, if known.
    pub leader: Option<u64>,
    /// What was asked for.
    pub journal: Journal,
}

/// The one thing to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be done; look again later, or when something changes.
    Wait {
        /// What is waited for, for people.
        reason: String,
    },
    /// Remove what a killed first start left, so that the next one starts clean.
    CleanData,
    /// Write the journal with this initial cluster, then run etcd.
    Start {
        /// For the first start; `None` when the data directory knows.
        initial: Option<InitialCluster>,
    },
    /// Take a member off the list.
    Remove {
        /// Which.
        id: u64,
    },
    /// Put this machine on the list, without a vote.
    AddLearner {
        /// Where the others will reach it.
        peer_urls: Vec<String>,
    },
    /// Give this machine its vote. Asked of a member that has one.
    Promote {
        /// Which.
        id: u64,
        /// Client URLs of members that may be asked.
        via: Vec<String>,
    },
    /// Give leadership to another member.
    MoveLeader {
        /// To which.
        to: u64,
    },
    /// Note in the journal that the cluster agreed to the removal.
    NoteRemoved,
    /// Stop etcd's service.
    Stop,
    /// Delete the data directory's content. The journal stays: without it this machine would join
    /// again at once.
    Wipe,
    /// A member with a vote, or gone for good.
    Done,
}

/// Names the step that the facts call for.
pub fn next_step(facts: &Facts) -> Step {
    match facts.journal.leave {
        Some(leave) => leave_step(facts, leave),
        None => member_step(facts),
    }
}

fn member_step(facts: &Facts) -> Step {
    if facts.running || facts.data == DataDir::Initialized {
        return running_step(facts);
    }
    if facts.peer_urls.is_empty() {
        return wait("this machine has no address to advertise to other members");
    }
    if facts.journal.initial.is_some() {
        // etcd was told to start and may be creating its data or announcing its name right now:
        // what is seen of either is no ground for taking anything away.
        return Step::Start { initial: facts.journal.initial.clone() };
    }
    if facts.data == DataDir::Partial {
        return Step::CleanData;
    }
    if facts.journal.bootstrap {
        let alone = [(facts.name.clone(), facts.peer_urls.clone())];
        return Step::Start { initial: Some(InitialCluster { existing: false, members: initial_members(&alone) }) };
    }
    join_step(facts)
}

fn running_step(facts: &Facts) -> Step {
    if !facts.running {
        // With the same arguments as before, where they are known: others would mean a restart.
        return Step::Start { initial: facts.journal.initial.clone() };
    }
    let Some(members) = &facts.members else {
        return wait("etcd runs; no control-plane machine tells the member list yet");
    };
    match own(facts, members) {
        Some(member) if member.learner => Step::Promote {
            id: member.id,
            via: members
                .iter()
                .filter(|other| !other.learner && other.id != member.id)
                .flat_map(|other| other.client_urls.iter().cloned())
                .collect(),
        },
        Some(_) => Step::Done,
        None => {
            wait("etcd runs with data of a member that the cluster no longer lists; it was removed: reset this machine to let it join anew")
        }
    }
}

fn join_step(facts: &Facts) -> Step {
    let Some(members) = &facts.members else {
        return wait("no bootstrap was asked for and no control-plane machine answers; ask one machine to bootstrap, once");
    };
    // A member of our name with data: that data is gone, since our directory is empty.
    if let Some(stale) = members.iter().find(|member| member.name == facts.name) {
        return Step::Remove { id: stale.id };
    }
    let ours = members.iter().find(|member| member.name.is_empty() && same_urls(&member.peer_urls, &facts.peer_urls));
    if ours.is_none() {
        // Somebody else's old membership under our addresses would keep us from being added.
        let squatter = members.iter().find(|member| member.peer_urls.iter().any(|url| facts.peer_urls.contains(url)));
        return match squatter {
            Some(old) => Step::Remove { id: old.id },
            None => Step::AddLearner { peer_urls: facts.peer_urls.clone() },
        };
    }
    let list: Vec<(String, Vec<String>)> = members
        .iter()
        .map(|member| {
            let name = if same_urls(&member.peer_urls, &facts.peer_urls) {
                facts.name.clone()
            } else if member.name.is_empty() {
                format!("{:x}", member.id)
            } else {
                member.name.clone()
            };
            (name, member.peer_urls.clone())
        })
        .collect();
    Step::Start { initial: Some(InitialCluster { existing: true, members: initial_members(&list) }) }
}

fn leave_step(facts: &Facts, leave: Leave) -> Step {
    if leave.removed || leave.abandoned {
        return gone_step(facts);
    }
    if !facts.running && facts.data == DataDir::Empty {
        let listed = facts.members.as_ref().and_then(|members| members.iter().find(|member| is_ours(facts, member)));
        return match listed {
            Some(member) => Step::Remove { id: member.id },
            None => Step::NoteRemoved,
        };
    }
    let Some(members) = &facts.members else {
        return wait("leaving: no member of etcd can be asked to remove this one");
    };
    let Some(member) = own(facts, members) else {
        return Step::NoteRemoved;
    };
    let other_voters: Vec<&Member> = members.iter().filter(|other| !other.learner && other.id != member.id).collect();
    let Some(successor) = other_voters.first() else {
        // The last member cannot be removed; the cluster ends with it.
        return Step::NoteRemoved;
    };
    if facts.leader == Some(member.id) {
        return Step::MoveLeader { to: successor.id };
    }
    Step::Remove { id: member.id }
}

fn gone_step(facts: &Facts) -> Step {
    if facts.running {
        Step::Stop
    } else if facts.data == DataDir::Empty {
        Step::Done
    } else {
        Step::Wipe
    }
}

fn own<'a>(facts: &Facts, members: &'a [Member]) -> Option<&'a Member> {
    members.iter().find(|member| is_ours(facts, member))
}

/// By name; a member that has not started yet has none and is known by its addresses.
fn is_ours(facts: &Facts, member: &Member) -> bool {
    if member.name.is_empty() { same_urls(&member.peer_urls, &facts.peer_urls) } else { member.name == facts.name }
}

fn same_urls(a: &[String], b: &[String]) -> bool {
    !a.is_empty() && a.len() == b.len() && a.iter().all(|url| b.contains(url))
}

fn wait(reason: &str) -> Step {
    Step::Wait { reason: reason.to_owned() }
}

/// A member id as everything prints it: 16 hexadecimal digits.
pub fn format_id(id: u64) -> String {
    format!("{id:016x}")
}

/// Reads a member id.
pub fn parse_id(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// Client URLs of etcd on other control-plane machines.
pub fn client_urls(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(|ip| super::args::url(ip, super::args::CLIENT_PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://10.5.0.3:2380";

    fn facts() -> Facts {
        Facts { name: "cp-2".into(), peer_urls: vec![URL.into()], ..Default::default() }
    }

    fn member(id: u64, name: &str, url: &str) -> Member {
        Member { id, name: name.into(), peer_urls: vec![url.into()], client_urls: vec![url.replace("2380", "2379")], learner: false }
    }

    fn first() -> Member {
        member(1, "cp-1", "https://10.5.0.2:2380")
    }

    #[test]
    fn nothing_is_done_without_being_asked() {
        assert!(matches!(next_step(&facts()), Step::Wait { .. }));
    }

    #[test]
    fn bootstrap_starts_alone_and_keeps_its_arguments() {
        let mut facts = facts();
        facts.journal.bootstrap = true;
        let initial = InitialCluster { existing: false, members: "cp-2=https://10.5.0.3:2380".into() };
        assert_eq!(next_step(&facts), Step::Start { initial: Some(initial.clone()) });
        facts.data = DataDir::Partial;
        assert_eq!(next_step(&facts), Step::CleanData);
        facts.data = DataDir::Initialized;
        facts.journal.initial = Some(initial.clone());
        assert_eq!(next_step(&facts), Step::Start { initial: Some(initial) });
        facts.running = true;
        facts.members = Some(vec![member(7, "cp-2", URL)]);
        assert_eq!(next_step(&facts), Step::Done);
        // After a boot the journal is gone and the data directory knows.
        facts.running = false;
        facts.journal = Journal::default();
        assert_eq!(next_step(&facts), Step::Start { initial: None });
    }

    #[test]
    fn join_removes_its_former_self() {
        let mut facts = facts();
        facts.members = Some(vec![first(), member(2, "cp-2", "https://10.9.9.9:2380")]);
        assert_eq!(next_step(&facts), Step::Remove { id: 2 });
        // Another machine's membership under our address.
        facts.members = Some(vec![first(), member(3, "old-name", URL)]);
        assert_eq!(next_step(&facts), Step::Remove { id: 3 });
    }

    #[test]
    fn an_etcd_that_was_told_to_start_is_left_alone() {
        let mut facts = facts();
        facts.journal.initial = Some(InitialCluster { existing: true, members: "x=y".into() });
        let start = Step::Start { initial: facts.journal.initial.clone() };
        // It has announced its name, and its data was looked at a moment too early.
        facts.members = Some(vec![first(), member(4, "cp-2", URL)]);
        assert_eq!(next_step(&facts), start);
        facts.data = DataDir::Partial;
        assert_eq!(next_step(&facts), start);
    }

    #[test]
    fn the_initial_cluster_names_everyone() {
        let mut facts = facts();
        let mut us = member(4, "", URL);
        us.learner = true;
        us.client_urls.clear();
        facts.members = Some(vec![first(), us]);
        assert_eq!(
            next_step(&facts),
            Step::Start {
                initial: Some(InitialCluster { existing: true, members: "cp-1=https://10.5.0.2:2380,cp-2=https://10.5.0.3:2380".into() })
            }
        );
    }

    #[test]
    fn a_learner_is_promoted_through_voters_only() {
        let mut facts = facts();
        facts.running = true;
        facts.data = DataDir::Initialized;
        let mut us = member(4, "cp-2", URL);
        us.learner = true;
        facts.members = Some(vec![first(), us]);
        assert_eq!(next_step(&facts), Step::Promote { id: 4, via: vec!["https://10.5.0.2:2379".into()] });
    }

    #[test]
    fn a_removed_member_says_so() {
        let mut facts = facts();
        facts.running = true;
        facts.data = DataDir::Initialized;
        facts.members = Some(vec![first()]);
        let Step::Wait { reason } = next_step(&facts) else { panic!("must wait") };
        assert!(reason.contains("removed") && reason.contains("reset"), "{reason}");
    }

    #[test]
    fn the_last_member_ends_the_cluster() {
        let mut facts = facts();
        facts.running = true;
        facts.data = DataDir::Initialized;
        facts.journal.leave = Some(Leave::default());
        facts.members = Some(vec![member(4, "cp-2", URL)]);
        assert_eq!(next_step(&facts), Step::NoteRemoved);
    }

    #[test]
    fn ids_read_as_they_print() {
        assert_eq!(format_id(0xab), "00000000000000ab");
        assert_eq!(parse_id("00000000000000ab"), Some(0xab));
        assert_eq!(parse_id("xyz"), None);
    }

    /// A cluster and a machine, to carry steps out on. Everything in it survives a kill.
    struct World {
        facts: Facts,
        members: Vec<Member>,
        next_id: u64,
        leader: u64,
    }

    impl World {
        fn look(&self) -> Facts {
            Facts { members: (!self.members.is_empty()).then(|| self.members.clone()), leader: Some(self.leader), ..self.facts.clone() }
        }

        /// Carries out a step. `half` stops after its first outside effect, where it has two.
        fn carry_out(&mut self, step: &Step, half: bool) {
            match step {
                Step::Start { initial } => {
                    self.facts.journal.initial = initial.clone();
                    if half {
                        return;
                    }
                    self.facts.running = true;
                    self.facts.data = DataDir::Initialized;
                    if self.members.is_empty() {
                        self.members.push(member(9, "cp-2", URL));
                        self.leader = 9;
                    }
                    for member in &mut self.members {
                        if member.name.is_empty() {
                            member.name = "cp-2".into();
                        }
                    }
                }
                Step::AddLearner { peer_urls } => {
                    self.next_id += 1;
                    self.members.push(Member { id: self.next_id, peer_urls: peer_urls.clone(), learner: true, ..Default::default() });
                }
                Step::Remove { id } => self.members.retain(|member| member.id != *id),
                Step::Promote { id, via } => {
                    assert!(!via.is_empty());
                    for member in &mut self.members {
                        if member.id == *id {
                            member.learner = false;
                        }
                    }
                }
                Step::MoveLeader { to } => self.leader = *to,
                Step::NoteRemoved => {
                    if let Some(leave) = &mut self.facts.journal.leave {
                        leave.removed = true;
                    }
                }
                Step::Stop => self.facts.running = false,
                Step::CleanData => self.facts.data = DataDir::Empty,
                Step::Wipe => {
                    self.facts.data = if half { DataDir::Partial } else { DataDir::Empty };
                }
                Step::Wait { reason } => panic!("waits forever: {reason}"),
                Step::Done => {}
            }
        }

        /// Runs to the end, with the brain killed in the middle of step number `kill_at`.
        fn run(&mut self, kill_at: usize) {
            for number in 0..40 {
                let step = next_step(&self.look());
                if step == Step::Done {
                    return;
                }
                self.carry_out(&step, number == kill_at);
            }
            panic!("no end after 40 steps: {:?}", self.look());
        }
    }

    #[test]
    fn join_survives_a_kill_at_any_step() {
        for kill_at in 0..12 {
            for stale in [false, true] {
                let mut members = vec![first()];
                if stale {
                    members.push(member(2, "cp-2", URL));
                }
                let mut world = World { facts: facts(), members, next_id: 10, leader: 1 };
                world.run(kill_at);
                let ours: Vec<_> = world.members.iter().filter(|m| m.name == "cp-2").collect();
                assert_eq!(ours.len(), 1, "kill at {kill_at}");
                assert!(!ours[0].learner && world.facts.running, "kill at {kill_at}");
                assert_eq!(world.members.len(), 2, "kill at {kill_at}");
            }
        }
    }

    #[test]
    fn leave_survives_a_kill_at_any_step() {
        for kill_at in 0..12 {
            for leads in [false, true] {
                let mut facts = facts();
                facts.running = true;
                facts.data = DataDir::Initialized;
                facts.journal.leave = Some(Leave::default());
                let members = vec![first(), member(4, "cp-2", URL)];
                let leader = if leads { 4 } else { 1 };
                let mut world = World { facts, members, next_id: 10, leader };
                world.run(kill_at);
                assert_eq!(world.members, [first()], "kill at {kill_at}");
                assert_eq!(world.leader, 1);
                assert!(!world.facts.running);
                assert_eq!(world.facts.data, DataDir::Empty);
            }
        }
    }
}

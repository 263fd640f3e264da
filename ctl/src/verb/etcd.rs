//! `etcd`: members and their health.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use api::machine as pb;
use clap::{Args, Subcommand};

use crate::session::Session;
use crate::table::{Table, bytes};

/// Manage etcd.
#[derive(Debug, Args)]
pub struct Etcd {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the members.
    #[command(alias = "member")]
    Members,
    /// Show the status of each node's member.
    Status,
    /// Save a snapshot to a file.
    Snapshot {
        /// The file.
        path: String,
    },
    /// Remove a member by its id.
    RemoveMember {
        /// The id, 16 hexadecimal digits.
        id: String,
    },
    /// The node leaves etcd.
    Leave,
    /// Move the leadership away from the node.
    ForfeitLeadership,
    /// Show or clear alarms.
    Alarm {
        #[command(subcommand)]
        command: Alarm,
    },
    /// Defragment the database of the node.
    Defrag,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Alarm {
    /// List the alarms.
    List,
    /// Clear the alarms.
    Disarm,
}

impl Etcd {
    /// Does what is asked.
    pub async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self.command {
            Command::Members => members(session).await,
            Command::Status => status(session).await,
            Command::Snapshot { path } => snapshot(session, &path).await,
            Command::RemoveMember { id } => remove(session, &id).await,
            Command::Leave => {
                session.one(false)?.client.machine().etcd_leave_cluster(pb::EtcdLeaveClusterRequest {}).await?;
                Ok(())
            }
            Command::ForfeitLeadership => {
                let answer = session.one(false)?.client.machine().etcd_forfeit_leadership(pb::EtcdForfeitLeadershipRequest {}).await?;
                for message in answer.into_inner().messages {
                    println!("the leadership moved to {}", if message.member.is_empty() { "no other member" } else { &message.member });
                }
                Ok(())
            }
            Command::Alarm { command } => alarms(session, command).await,
            Command::Defrag => {
                session.one(false)?.client.machine().etcd_defragment(()).await?;
                Ok(())
            }
        }
    }
}

async fn members(session: &Session) -> anyhow::Result<()> {
    let rows = session
        .collect(false, async |node| {
            let request = pb::EtcdMemberListRequest { query_local: false };
            Ok(node.client.machine().etcd_member_list(request).await?.into_inner().messages)
        })
        .await;
    let mut table = Table::new(&["NODE", "ID", "HOSTNAME", "PEER URLS", "CLIENT URLS", "LEARNER"]);
    for (node, messages) in &rows.found {
        for m in messages.iter().flat_map(|m| &m.members) {
            let id = format!("{:016x}", m.id);
            table.row([
                node.name.clone(),
                id,
                m.hostname.clone(),
                m.peer_urls.join(","),
                m.client_urls.join(","),
                m.is_learner.to_string(),
            ]);
        }
    }
    print!("{table}");
    rows.finish()
}

async fn status(session: &Session) -> anyhow::Result<()> {
    let rows = session.collect(false, async |node| Ok(node.client.machine().etcd_status(()).await?.into_inner().messages)).await;
    let headings = [
        "NODE",
        "MEMBER",
        "DB SIZE",
        "IN USE",
        "LEADER",
        "RAFT INDEX",
        "RAFT TERM",
        "RAFT APPLIED INDEX",
        "LEARNER",
        "PROTOCOL",
        "STORAGE",
        "ERRORS",
    ];
    let mut table = Table::new(&headings);
    for (node, messages) in &rows.found {
        for s in messages.iter().filter_map(|m| m.member_status.as_ref()) {
            let size = |n: i64| bytes(u64::try_from(n).unwrap_or_default());
            #[expect(clippy::cast_precision_loss, reason = "a percentage")]
            let share = if s.db_size > 0 { s.db_size_in_use as f64 * 100.0 / s.db_size as f64 } else { 0.0 };
            table.row([
                node.name.clone(),
                format!("{:016x}", s.member_id),
                size(s.db_size),
                format!("{} ({share:.2}%)", size(s.db_size_in_use)),
                format!("{:016x}", s.leader),
                s.raft_index.to_string(),
                s.raft_term.to_string(),
                s.raft_applied_index.to_string(),
                s.is_learner.to_string(),
                s.protocol_version.clone(),
                s.storage_version.clone(),
                s.errors.join(", "),
            ]);
        }
    }
    print!("{table}");
    rows.finish()
}

async fn snapshot(session: &Session, path: &str) -> anyhow::Result<()> {
    let mut stream = session.one(false)?.client.machine().etcd_snapshot(pb::EtcdSnapshotRequest {}).await?.into_inner();
    // A snapshot that broke off must not look like one: it gets its name when it is whole.
    let partial = format!("{path}.part");
    let mut file = std::fs::File::create(&partial).with_context(|| format!("creating {partial}"))?;
    let mut size = 0_u64;
    while let Some(part) = stream.message().await? {
        file.write_all(&part.bytes).with_context(|| format!("writing {partial}"))?;
        size += part.bytes.len() as u64;
    }
    file.sync_all()?;
    std::fs::rename(&partial, path).with_context(|| format!("renaming {partial} to {path}"))?;
    println!("etcd snapshot saved to {path:?} ({size} bytes)");
    Ok(())
}

async fn remove(session: &Session, id: &str) -> anyhow::Result<()> {
    let Ok(member_id) = u64::from_str_radix(id, 16) else {
        bail!("found member id {id:?}, expected 16 hexadecimal digits as `etcd members` prints them");
    };
    session.one(false)?.client.machine().etcd_remove_member_by_id(pb::EtcdRemoveMemberByIdRequest { member_id }).await?;
    Ok(())
}

async fn alarms(session: &Session, command: Alarm) -> anyhow::Result<()> {
    let rows = session
        .collect(false, async |node| {
            let mut machine = node.client.machine();
            Ok(match command {
                Alarm::List => {
                    machine.etcd_alarm_list(()).await?.into_inner().messages.into_iter().flat_map(|m| m.member_alarms).collect::<Vec<_>>()
                }
                Alarm::Disarm => {
                    machine.etcd_alarm_disarm(()).await?.into_inner().messages.into_iter().flat_map(|m| m.member_alarms).collect()
                }
            })
        })
        .await;
    let mut table = Table::new(&["NODE", "MEMBER", "ALARM"]);
    for (node, alarms) in &rows.found {
        for alarm in alarms {
            table.row([node.name.clone(), format!("{:016x}", alarm.member_id), format!("{:?}", alarm.alarm())]);
        }
    }
    print!("{table}");
    rows.finish()
}

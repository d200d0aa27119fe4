//! DescribeLogDirs: sizes of partitions and of the disk. User interfaces show
//! nothing at all when it fails.

use std::sync::Arc;

use forebay_kafka::messages::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use forebay_storage::Topic;

use crate::Broker;
use crate::authority::{Operation, Resource};
use crate::call::Call;
use crate::errors::KafkaCode;
use crate::reply::Reply;
use crate::topic_name::is_internal;

impl Broker {
    pub(crate) fn describe_log_dirs(
        self: &Arc<Self>,
        call: &Call,
        request: DescribeLogDirsRequest,
    ) -> Reply {
        if let Err(refusal) = call.check(Operation::Describe, Resource::Cluster) {
            return call.ready(&DescribeLogDirsResponse {
                error_code: refusal.kafka_code(),
                ..DescribeLogDirsResponse::default()
            });
        }
        let topics = match &request.topics {
            None => {
                let all = self.storage.topics();
                all.iter()
                    .filter(|t| !is_internal(t.name()))
                    .map(|t| describe(t, |_| true))
                    .collect()
            }
            Some(asked) => asked
                .iter()
                .filter_map(|asked| self.describe_asked_dirs(asked))
                .collect(),
        };
        let stats = self.storage.stats();
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        call.ready(&DescribeLogDirsResponse {
            results: vec![DescribeLogDirsResult {
                log_dir: self.config.log_dir.as_str().into(),
                topics,
                total_bytes: bytes(stats.used_bytes.saturating_add(stats.free_bytes)),
                usable_bytes: bytes(stats.free_bytes),
                ..DescribeLogDirsResult::default()
            }],
            ..DescribeLogDirsResponse::default()
        })
    }

    fn describe_asked_dirs(&self, asked: &DescribableLogDirTopic) -> Option<DescribeLogDirsTopic> {
        let topic = self.topic(&asked.topic)?;
        Some(describe(&topic, |index| {
            asked.partitions.contains(&(index as i32))
        }))
    }
}

fn describe(topic: &Topic, is_asked: impl Fn(u32) -> bool) -> DescribeLogDirsTopic {
    let partitions = (0..topic.partition_count())
        .filter(|index| is_asked(*index))
        .filter_map(|index| {
            let partition = topic.partition(index)?;
            Some(DescribeLogDirsPartition {
                partition_index: index as i32,
                partition_size: i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX),
                ..DescribeLogDirsPartition::default()
            })
        });
    DescribeLogDirsTopic {
        name: topic.name().into(),
        partitions: partitions.collect(),
        ..DescribeLogDirsTopic::default()
    }
}

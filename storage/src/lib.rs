//! The partitioned log: frames, segments, group commit, recovery, retention, state view

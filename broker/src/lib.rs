//! Topics, producers, consumer groups and Kafka request handling over the log

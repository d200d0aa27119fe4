//! ApiVersions: what this broker serves.

use std::sync::Arc;

use forebay_kafka::append_condition::{FEATURE_NAME, FEATURE_VERSION};
use forebay_kafka::messages::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, SupportedFeatureKey,
};
use forebay_kafka::{ApiKey, error_code};

use crate::Broker;
use crate::broker::served_versions;
use crate::call::Call;
use crate::reply::Reply;

impl Broker {
    pub(crate) fn api_versions(
        self: &Arc<Self>,
        call: &Call,
        _request: ApiVersionsRequest,
    ) -> Reply {
        call.ready(&ApiVersionsResponse {
            api_keys: self.served_apis(),
            supported_features: vec![SupportedFeatureKey {
                name: FEATURE_NAME.into(),
                min_version: FEATURE_VERSION,
                max_version: FEATURE_VERSION,
                ..SupportedFeatureKey::default()
            }],
            ..ApiVersionsResponse::default()
        })
    }

    /// A client that is newer than this broker learns what is served from a
    /// version 0 answer and asks again (KIP-511).
    pub(crate) fn api_versions_unsupported(self: &Arc<Self>, call: &Call) -> Reply {
        let call = Call {
            version: 0,
            ..call.clone()
        };
        call.ready(&ApiVersionsResponse {
            error_code: error_code::UNSUPPORTED_VERSION,
            api_keys: self.served_apis(),
            ..ApiVersionsResponse::default()
        })
    }

    fn served_apis(&self) -> Vec<ApiVersion> {
        let served = |key: &ApiKey| {
            let versions = served_versions(*key);
            ApiVersion {
                api_key: *key as i16,
                // librdkafka takes Produce v0 as the sign that a broker knows
                // compression at all (KAFKA-18659); requests below 3 are refused.
                min_version: if *key == ApiKey::Produce {
                    0
                } else {
                    *versions.start()
                },
                max_version: *versions.end(),
                ..ApiVersion::default()
            }
        };
        let all = ApiKey::ALL.iter().filter(|key| self.serves(**key));
        all.map(served).collect()
    }
}

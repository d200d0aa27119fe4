//! SaslHandshake and SaslAuthenticate: a login, message by message.
//!
//! The first form of the handshake, whose messages come without Kafka's headers,
//! is only advertised, because librdkafka takes it as the sign that a broker
//! knows the later one. Whoever uses it is refused.

use std::sync::Arc;

use bytes::Bytes;
use forebay_kafka::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use forebay_kafka::{KStr, error_code};

use crate::Broker;
use crate::authority::{Authority, LoginState, LoginStep};
use crate::call::{Call, ConnectionContext};
use crate::reply::{CloseReason, Reply};

/// The version whose messages come in SaslAuthenticate.
const WITH_AUTHENTICATE: i16 = 1;

/// What a client is told whose messages come in the wrong order.
const OUT_OF_ORDER: &str = "SaslHandshake has to come first, and once";

impl Broker {
    pub(crate) fn sasl_handshake(
        self: &Arc<Self>,
        call: &Call,
        authority: &dyn Authority,
        context: &ConnectionContext,
        request: SaslHandshakeRequest,
    ) -> Reply {
        let mechanisms = authority.mechanisms(context);
        let answer = |error_code| {
            call.ready(&SaslHandshakeResponse {
                error_code,
                mechanisms: mechanisms.iter().map(|name| KStr::from(*name)).collect(),
            })
        };
        let before = context.session.take_login();
        if !matches!(before, LoginState::None) {
            context.session.set_login(before);
            return answer(error_code::ILLEGAL_SASL_STATE);
        }
        context.session.set_login(before);
        if call.version < WITH_AUTHENTICATE {
            return answer(error_code::UNSUPPORTED_VERSION);
        }
        match authority.log_in(context, &request.mechanism) {
            Some(login) => {
                context.session.begin_login(login);
                answer(error_code::NONE)
            }
            None => answer(error_code::UNSUPPORTED_SASL_MECHANISM),
        }
    }

    pub(crate) fn sasl_authenticate(
        self: &Arc<Self>,
        call: &Call,
        context: &ConnectionContext,
        request: SaslAuthenticateRequest,
    ) -> Reply {
        let session = Arc::clone(&context.session);
        let login = match session.take_login() {
            LoginState::Expects(login) => login,
            LoginState::Failed => {
                session.set_login(LoginState::Failed);
                return Reply::Close(CloseReason::NotLoggedIn);
            }
            other => {
                session.set_login(other);
                return call.ready(&refusal(
                    error_code::ILLEGAL_SASL_STATE,
                    OUT_OF_ORDER.to_owned(),
                ));
            }
        };
        // The frame it lies in is not kept while the password is looked at.
        let message = Bytes::copy_from_slice(&request.auth_bytes);
        drop(request);
        let (broker, call) = (Arc::clone(self), call.clone());
        Reply::Pending(Box::pin(async move {
            match login.answer(message).await {
                LoginStep::Challenge(message, next) => {
                    session.set_login(LoginState::Expects(next));
                    call.ready(&accepted(message))
                }
                LoginStep::LoggedIn(message, principal) => {
                    session.end_login(principal);
                    call.ready(&accepted(message))
                }
                LoginStep::Refused(reason) => {
                    session.set_login(LoginState::Failed);
                    broker.counters.add_failed_login();
                    call.ready(&refusal(error_code::SASL_AUTHENTICATION_FAILED, reason))
                }
            }
        }))
    }
}

fn accepted(message: Bytes) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        auth_bytes: message,
        ..SaslAuthenticateResponse::default()
    }
}

fn refusal(error_code: i16, reason: String) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code,
        error_message: Some(reason.into()),
        ..SaslAuthenticateResponse::default()
    }
}

//! Asking for the end or a restart on the admin port: for those who know the token.

use std::sync::{Arc, OnceLock};

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use http::{Method, Response, StatusCode};

use super::{not_allowed, plain};
use crate::driver::Shared;

/// What those who may ask for an end or a restart know. Nobody may, unless it is set.
pub(super) type Token = Arc<OnceLock<String>>;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Restart,
    Drain,
}

impl Action {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/restart" => Some(Self::Restart),
            "/drain" => Some(Self::Drain),
            _ => None,
        }
    }
}

/// What is done for those who know the token.
#[derive(Clone)]
pub(super) struct Control {
    token: Token,
    shared: Arc<Shared>,
}

impl Control {
    pub(super) fn new(token: Token, shared: Arc<Shared>) -> Self {
        Self { token, shared }
    }

    pub(super) fn is_on(&self) -> bool {
        self.token.get().is_some()
    }

    /// Why this request does nothing, if it is so.
    pub(super) fn refuses(
        &self,
        method: &Method,
        headers: &HeaderMap,
        from_own_page: bool,
    ) -> Option<Response<String>> {
        if method != Method::POST {
            return Some(not_allowed("POST", "POST"));
        }
        // A browser says whose page it is that asks: if not this port's own, somebody else's (CSRF, DNS rebinding).
        if headers.contains_key(ORIGIN) && !from_own_page {
            return Some(plain(StatusCode::FORBIDDEN, "not from a web page"));
        }
        let Some(given) = headers.get(AUTHORIZATION) else {
            let mut response = plain(StatusCode::UNAUTHORIZED, "this needs a token");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Some(response);
        };
        let is_known = self.token.get().is_some_and(|token| is_bearer(given.as_bytes(), token.as_bytes()));
        (!is_known).then(|| plain(StatusCode::FORBIDDEN, "not with this token"))
    }

    pub(super) async fn perform(self, action: Action) -> Response<String> {
        tracing::info!(target: "glidepath::admin", ?action, "asked for on the admin port");
        match action {
            Action::Drain => {
                self.shared.begin();
                plain(StatusCode::ACCEPTED, "draining")
            }
            Action::Restart => match self.shared.restart().await {
                Ok(pid) => plain(StatusCode::OK, format!("process {pid} has taken over")),
                // It goes on as it was, and may be asked again.
                Err(error) => plain(StatusCode::CONFLICT, error.to_string()),
            },
        }
    }
}

/// Whether a header gives this token (RFC 6750). It takes as long for a wrong one, wherever the first wrong byte is.
fn is_bearer(given: &[u8], token: &[u8]) -> bool {
    let Some((scheme, given)) = given.split_at_checked("Bearer ".len()) else { return false };
    let differs = given.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b));
    scheme.eq_ignore_ascii_case(b"Bearer ") && given.len() == token.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ho_5_a_token_is_known_whole_or_not_at_all() {
        for known in ["Bearer secret", "bearer secret"] {
            assert!(is_bearer(known.as_bytes(), b"secret"), "{known}");
        }
        for not in
            ["", "secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer  secret", "Basic secret"]
        {
            assert!(!is_bearer(not.as_bytes(), b"secret"), "{not}");
        }
    }
}

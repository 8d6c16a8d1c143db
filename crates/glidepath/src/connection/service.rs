//! The app as hyper calls it: counted, named, told of the end, safe against panics.

use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::Body;
use super::entry::{Entry, RequestEnd};
use super::events;
use super::peer::PeerAddr;
use super::registry::Stage;
use super::requests::Key;
use super::span;
use super::tunnel::Tunnel;
use super::upgraded::Upgrade;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can be served: a tower service of [`http::Request`], such as axum's `Router`.
///
/// Implemented for every service that fits; nothing to implement by hand.
pub trait App: sealed::Sealed + Clone + Send + 'static {
    #[doc(hidden)]
    type Body: http_body::Body<Data: Buf + Send, Error: Into<BoxError>> + Send + 'static;
    #[doc(hidden)]
    type Error: Into<BoxError>;
    #[doc(hidden)]
    type Future: Future<Output = Result<Response<Self::Body>, Self::Error>> + Send + 'static;
    #[doc(hidden)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;
    #[doc(hidden)]
    fn call(&mut self, request: Request<Body>) -> Self::Future;
}

mod sealed {
    pub trait Sealed {}
}

impl<S, B> sealed::Sealed for S where S: Service<Request<Body>, Response = Response<B>> {}

impl<S, B> App for S
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>,
    S: Clone + Send + 'static,
    B: http_body::Body<Data: Buf + Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Service::poll_ready(self, cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        Service::call(self, request)
    }
}

/// The app of one connection.
#[derive(Debug)]
pub(crate) struct Tracked<A> {
    app: A,
    entry: Arc<Entry>,
    spans: bool,
}

impl<A> Tracked<A> {
    pub(crate) fn new(app: A, entry: Arc<Entry>) -> Self {
        Self { app, spans: entry.registry().has_request_spans(), entry }
    }

    pub(crate) fn into_app(self) -> A {
        self.app
    }
}

impl<A: App> hyper::service::Service<Request<Incoming>> for Tracked<A> {
    type Response = Response<TrackedBody<A::Body>>;
    type Error = BoxError;
    type Future = TrackedCall<A>;

    fn call(&self, mut request: Request<Incoming>) -> TrackedCall<A> {
        if let Some(address) = self.entry.shown_peer() {
            PeerAddr(address).put_into(request.extensions_mut());
        }
        let tunnel = Tunnel::dig(&mut request);
        let key = self.entry.begin(&request);
        let spanned = self.spans && span::begin(&request, &self.entry, key);
        // A guard, and no closure around the rest: a request is large, and so is not moved once more.
        let _entered = span::Entered::while_in(spanned.then_some((&*self.entry, key)));
        let http1 = request.version() != Version::HTTP_2;
        let guard = Guard::new(&self.entry, key, spanned);
        TrackedCall {
            answer: Answer {
                http1,
                bodiless: request.method() == Method::HEAD,
                connect: request.method() == Method::CONNECT,
                // gRPC's requests are all POST; others need not be searched for what they carry.
                grpc: !http1 && request.method() == Method::POST && is_of(request.headers(), b"application/grpc"),
            },
            tunnel,
            // An app that is ready is called at once: a request is large, and so is not moved once more. Not where another
            // task polls (HTTP/2): what the app does there is not to hold up the connection.
            call: match http1 {
                true => Call::at_once(self.app.clone(), request, &guard),
                false => Call::Waiting { app: self.app.clone(), request: Some(request) },
            },
            guard: Some(guard),
        }
    }
}

/// A request in flight; dropped when the app is done with it.
pub(super) struct Guard {
    pub(super) entry: Arc<Entry>,
    pub(super) key: Key,
    waits: bool,
    end: RequestEnd,
    /// It is in a span.
    spanned: bool,
}

impl Guard {
    pub(super) fn new(entry: &Arc<Entry>, key: Key, spanned: bool) -> Self {
        Self { entry: Arc::clone(entry), key, waits: false, end: RequestEnd::Abandoned, spanned }
    }

    /// The request as the app gets it.
    #[inline]
    fn follow(&self, request: Request<Incoming>, http1: bool) -> Request<Body> {
        request.map(|body| Body::new(body, &self.entry, self.key, http1))
    }

    /// Makes sure that the deadline wakes whoever polls this. Gives the stage as it is after that: one that came before
    /// has woken nobody.
    fn wait(&mut self, cx: &Context<'_>) -> Stage {
        if !self.waits {
            self.waits = true;
            self.entry.wait(self.key, cx.waker());
        }
        self.entry.stage()
    }

    fn is_over(&self) -> bool {
        self.entry.stage() >= Stage::Answer
    }

    pub(super) fn answered(mut self) {
        self.end = RequestEnd::Answered;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.spanned {
            span::end(&self.entry, self.key);
        }
        let cut = self.end == RequestEnd::Abandoned && self.is_over();
        self.entry.end(self.key, if cut { RequestEnd::Cut } else { self.end });
    }
}

pin_project! {
    /// One request with the app.
    pub(crate) struct TrackedCall<A: App> {
        answer: Answer,
        tunnel: Option<Box<Tunnel>>,
        guard: Option<Guard>,
        #[pin]
        call: Call<A>,
    }
}

pin_project! {
    #[project = CallProj]
    enum Call<A: App> {
        Waiting { app: A, request: Option<Request<Incoming>> },
        Called { #[pin] future: A::Future },
        Failed { why: Option<Failure> },
    }
}

impl<A: App> Call<A> {
    /// Called now, if it is ready.
    #[inline]
    fn at_once(mut app: A, request: Request<Incoming>, guard: &Guard) -> Self {
        let mut nobody = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| app.poll_ready(&mut nobody))) {
            Ok(Poll::Ready(Ok(()))) => match catch_unwind(AssertUnwindSafe(|| app.call(guard.follow(request, true)))) {
                Ok(future) => Self::Called { future },
                Err(_panic) => Self::Failed { why: Some(Failure::Panic) },
            },
            Ok(Poll::Ready(Err(error))) => Self::Failed { why: Some(Failure::app(error)) },
            // The first poll asks again, with somebody to wake.
            Ok(Poll::Pending) => Self::Waiting { app, request: Some(request) },
            Err(_panic) => Self::Failed { why: Some(Failure::Panic) },
        }
    }

    fn poll(
        self: Pin<&mut Self>,
        guard: &Guard,
        http1: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<A::Body>, Failure>> {
        match catch_unwind(AssertUnwindSafe(|| self.poll_app(guard, http1, cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => Poll::Ready(answer),
            Err(_panic) => Poll::Ready(Err(Failure::Panic)),
        }
    }

    fn poll_app(
        mut self: Pin<&mut Self>,
        guard: &Guard,
        http1: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<A::Body>, Failure>> {
        loop {
            let future = match self.as_mut().project() {
                CallProj::Called { future } => return future.poll(cx).map_err(Failure::app),
                CallProj::Waiting { app, request } => {
                    ready!(app.poll_ready(cx)).map_err(Failure::app)?;
                    match request.take() {
                        Some(request) => app.call(guard.follow(request, http1)),
                        // It panicked when it was called.
                        None => return Poll::Ready(Err(Failure::Panic)),
                    }
                }
                CallProj::Failed { why } => return Poll::Ready(Err(why.take().unwrap_or(Failure::Panic))),
            };
            self.set(Self::Called { future });
        }
    }
}

/// Why there is no response of the app.
enum Failure {
    App(BoxError),
    Panic,
}

impl Failure {
    fn app(error: impl Into<BoxError>) -> Self {
        Self::App(error.into())
    }
}

impl<A: App> Future for TrackedCall<A> {
    type Output = Result<Response<TrackedBody<A::Body>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.guard.as_ref().is_some_and(|guard| guard.spanned) { self.poll_in_span(cx) } else { self.poll_app(cx) }
    }
}

impl<A: App> TrackedCall<A> {
    #[cold]
    fn poll_in_span(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<TrackedBody<A::Body>>, BoxError>> {
        let Some(guard) = &self.guard else { return Poll::Pending };
        let (entry, key) = (Arc::clone(&guard.entry), guard.key);
        span::answers(&entry, key, || self.poll_app(cx), Response::status)
    }

    #[inline]
    fn poll_app(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Response<TrackedBody<A::Body>>, BoxError>> {
        let mut this = self.project();
        let Some(guard) = this.guard.as_mut() else { return Poll::Pending };
        let answer = *this.answer;
        let response = match this.call.as_mut().poll(guard, answer.http1, cx) {
            Poll::Ready(Ok(response)) => {
                // One that has told its length must keep to it.
                let open_ended = response.body().size_hint().exact().is_none();
                return Poll::Ready(Ok(answer.follow(response, Some, open_ended, this.guard, this.tunnel)));
            }
            Poll::Ready(Err(Failure::App(error))) => {
                tracing::error!(target: "glidepath::request", %error, "the app failed; answering 500");
                empty(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Poll::Ready(Err(Failure::Panic)) => {
                guard.entry.panicked();
                tracing::error!(target: "glidepath::request", "the app panicked; answering 500");
                empty(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Poll::Pending if guard.wait(cx) < Stage::Answer => return Poll::Pending,
            Poll::Pending => {
                guard.end = RequestEnd::Cut;
                if answer.grpc { grpc_unavailable() } else { unavailable() }
            }
        };
        Poll::Ready(Ok(answer.follow(response, |()| None, false, this.guard, this.tunnel)))
    }
}

/// What a request says of its answer.
#[derive(Clone, Copy)]
struct Answer {
    http1: bool,
    bodiless: bool,
    connect: bool,
    grpc: bool,
}

impl Answer {
    /// The answer as hyper gets it. `body` makes its body of what `response` has, `None` for an empty one of our own.
    #[inline]
    fn follow<T, B: http_body::Body>(
        self,
        mut response: Response<T>,
        body: impl FnOnce(T) -> Option<B>,
        open_ended: bool,
        guard: &mut Option<Guard>,
        tunnel: &mut Option<Box<Tunnel>>,
    ) -> Response<TrackedBody<B>> {
        let status = response.status();
        let mut events_end = None;
        if let Some(guard) = guard {
            let switches = status == StatusCode::SWITCHING_PROTOCOLS || (self.connect && status.is_success());
            if self.http1 && switches {
                // It says `Connection: upgrade`, and has no further response on its connection.
                guard.entry.upgrade(guard.key, upgrade(&response));
            } else if self.http1 && guard.entry.stage() >= Stage::TurnAway {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if open_ended && is_of(response.headers(), b"text/event-stream") {
                let to_deadline = guard.entry.registry().plan().events_to_deadline;
                events_end = Some(if to_deadline { Stage::Answer } else { Stage::Drain });
            }
        }
        let bodiless = self.bodiless
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        // Not gRPC-Web: there the trailers are part of the body, and only the app knows where in it they may stand.
        let grpc = self.grpc && is_of(response.headers(), b"application/grpc");
        let guard = match (guard.take(), tunnel.take()) {
            (Some(guard), Some(tunnel)) if status.is_success() => {
                tunnel.open(guard);
                None
            }
            (guard, _) => guard,
        };
        response.map(|inner| TrackedBody::new(body(inner), guard, bodiless, events_end, grpc))
    }
}

fn empty(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}

fn upgrade<B>(response: &Response<B>) -> Upgrade {
    let web_socket = response.headers().get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if web_socket { Upgrade::WebSocket } else { Upgrade::Raw }
}

/// The answer at the deadline: nothing was done wrong, and the next server may be asked at once (END-2).
fn unavailable() -> Response<()> {
    let mut response = empty(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The same for gRPC, which reads its status in trailers: here they are the whole response (gRPC over HTTP/2,
/// "Trailers-Only").
fn grpc_unavailable() -> Response<()> {
    let mut response = empty(StatusCode::OK);
    *response.headers_mut() = grpc_trailers();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// UNAVAILABLE, which is status 14: the caller may ask the next server.
fn grpc_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("14"));
    trailers.insert("grpc-message", HeaderValue::from_static("the server is shutting down"));
    trailers
}

/// Whether the content type is `kind`, whatever its parameters or suffix.
pub(crate) fn is_of(headers: &HeaderMap, kind: &[u8]) -> bool {
    let is_kind = |value: &HeaderValue| {
        let Some((is, rest)) = value.as_bytes().split_at_checked(kind.len()) else { return false };
        is.eq_ignore_ascii_case(kind) && matches!(rest.first(), None | Some(b';' | b'+' | b' ' | b'\t'))
    };
    headers.get(CONTENT_TYPE).is_some_and(is_kind)
}

pin_project! {
    /// A response's body, until hyper drops it.
    pub(crate) struct TrackedBody<B: http_body::Body> {
        // `None`: an empty body of our own.
        #[pin]
        inner: Option<B>,
        guard: Option<Guard>,
        bodiless: bool,
        // `text/event-stream`: from when on it is ended, between two events.
        events_end: Option<Stage>,
        events: events::Follower,
        // A gRPC response: its end says how the call ended.
        grpc: bool,
    }

    impl<B: http_body::Body> PinnedDrop for TrackedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(guard) = this.guard {
                // One that hyper has not asked for anything may be at its end all the same.
                let is_open = guard.end == RequestEnd::Abandoned;
                if is_open && (*this.bodiless || this.inner.as_ref().as_pin_ref().is_none_or(|body| body.is_end_stream())) {
                    guard.end = RequestEnd::Answered;
                }
            }
        }
    }
}

impl<B: http_body::Body> TrackedBody<B> {
    pub(super) fn new(
        inner: Option<B>,
        guard: Option<Guard>,
        bodiless: bool,
        events_end: Option<Stage>,
        grpc: bool,
    ) -> Self {
        Self { inner, guard, bodiless, events_end, events: events::Follower::default(), grpc }
    }

    /// The stage, where it matters to what the body is: only events are ended before the deadline.
    #[inline]
    fn stage_of_events(&self) -> Stage {
        let guard = self.guard.as_ref().filter(|_| self.events_end.is_some());
        guard.map_or(Stage::Serve, |guard| guard.entry.stage())
    }
}

impl<B: http_body::Body<Data: Buf, Error: Into<BoxError>>> http_body::Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        if self.guard.as_ref().is_some_and(|guard| guard.spanned) { self.poll_in_span(cx) } else { self.poll_inner(cx) }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl<B: http_body::Body<Data: Buf, Error: Into<BoxError>>> TrackedBody<B> {
    #[cold]
    fn poll_in_span(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let Some(guard) = &self.guard else { return Poll::Ready(None) };
        let (entry, key) = (Arc::clone(&guard.entry), guard.key);
        span::in_scope(&entry, key, || self.poll_inner(cx))
    }

    #[inline]
    fn poll_inner(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let stage = self.stage_of_events();
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        if this.events.is_between() && this.events_end.is_some_and(|end| stage >= end) {
            // A proper end of body: the client asks again, whoever is there next.
            if let Some(guard) = this.guard {
                guard.entry.ask_again();
                guard.end = RequestEnd::Answered;
            }
            this.inner.set(None);
            return Poll::Ready(None);
        }
        match inner.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let is_last = inner.is_end_stream();
                if let Some(guard) = this.guard {
                    if let Some(data) = frame.data_ref() {
                        guard.entry.sent(guard.key, data.remaining(), is_last);
                    }
                    if is_last {
                        guard.end = RequestEnd::Answered;
                    }
                }
                if let Some(data) = frame.data_ref().filter(|_| this.events_end.is_some()) {
                    follow(this.events, data);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                if let Some(guard) = this.guard {
                    guard.end = RequestEnd::Answered;
                }
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(guard) = this.guard else { return Poll::Pending };
                let now = guard.wait(cx);
                if now >= Stage::Answer {
                    guard.end = RequestEnd::Cut;
                    if *this.grpc {
                        this.inner.set(None);
                        return Poll::Ready(Some(Ok(Frame::trailers(grpc_trailers()))));
                    }
                    return Poll::Ready(Some(Err("cut at the end of the grace period".into())));
                }
                if this.events_end.is_some() && now > stage {
                    // Events may have to end.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

/// Follows events through data that may be in several places.
fn follow(events: &mut events::Follower, data: &impl Buf) {
    let mut places = [IoSlice::new(&[]); 8];
    let n = data.chunks_vectored(&mut places);
    places[..n].iter().for_each(|place| events.follow(place));
    if places[..n].iter().map(|place| place.len()).sum::<usize>() < data.remaining() {
        events.skip();
    }
}

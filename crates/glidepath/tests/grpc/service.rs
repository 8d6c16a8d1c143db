//! A gRPC service of two methods whose messages are text, and its client: what a generated one would be, without protoc.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{self, uri::PathAndQuery};
use futures_util::stream::{self, Stream, StreamExt};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// `Sleep` answers after as many milliseconds as it is told; `Count` says so many numbers, one in 20 ms.
#[derive(Clone)]
pub(crate) struct Clockwork;

impl NamedService for Clockwork {
    const NAME: &'static str = "check.Clockwork";
}

impl Service<http::Request<Body>> for Clockwork {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(Text);
            Ok(match request.uri().path() {
                "/check.Clockwork/Sleep" => grpc.unary(Sleep, request).await,
                "/check.Clockwork/Count" => grpc.server_streaming(Count, request).await,
                path => Status::unimplemented(path).into_http(),
            })
        })
    }
}

struct Sleep;

impl UnaryService<String> for Sleep {
    type Response = String;
    type Future = Boxed<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(number(&request)?)).await;
            Ok(Response::new("slept".to_owned()))
        })
    }
}

struct Count;

impl ServerStreamingService<String> for Count {
    type Response = String;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;
    type Future = Boxed<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        Box::pin(async move {
            let numbers = stream::iter(0..number(&request)?).then(|number| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(number.to_string())
            });
            Ok(Response::new(numbers.boxed() as Self::ResponseStream))
        })
    }
}

fn number(request: &Request<String>) -> Result<u64, Status> {
    request.get_ref().parse().map_err(|_| Status::invalid_argument(request.get_ref()))
}

#[derive(Clone)]
pub(crate) struct Client(tonic::client::Grpc<Channel>);

impl Client {
    pub(crate) fn over(channel: Channel) -> Self {
        Self(tonic::client::Grpc::new(channel))
    }

    pub(crate) async fn sleep(&mut self, ms: u64) -> Result<String, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/check.Clockwork/Sleep");
        self.0.unary(Request::new(ms.to_string()), path, Text).await.map(Response::into_inner)
    }

    pub(crate) async fn count(&mut self, numbers: u64) -> Result<Streaming<String>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/check.Clockwork/Count");
        self.0.server_streaming(Request::new(numbers.to_string()), path, Text).await.map(Response::into_inner)
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::from_error(Box::new(error)))
    }
}

/// A message is its text.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(into, text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let length = bytes::Buf::remaining(from);
        let text = String::from_utf8(bytes::Buf::copy_to_bytes(from, length).to_vec());
        text.map(Some).map_err(|_| Status::internal("not text"))
    }
}

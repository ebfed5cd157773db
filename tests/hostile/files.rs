//! Open files run out.

use tokio::net::TcpStream;

use crate::server::{Server, Witness};

#[tokio::test(flavor = "multi_thread")]
async fn a_low_limit_of_open_files_is_told_and_survived() {
    let server = Server::start_with(Some(256), "info").await;
    server.logs("open files").await;
    let witness = Witness::start(&server).await;
    let mut held = Vec::new();
    for _ in 0..600 {
        held.push(TcpStream::connect(server.address).await.unwrap());
    }
    server.answers().await;
    witness.was_served("too few open files").await;
    drop(held);
    server.answers().await;
}

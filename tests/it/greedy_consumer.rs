//! A consumer that claims everything and takes from every lease that it gets: deliveries and nothing else.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use usher::broker::{Arrival, Consumer, Delivery, Lease, Link};

/// The longest that giving leases up may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct GreedyConsumer {
    consumer: Box<dyn Consumer>,
    partitions: u16,
    held: Vec<Lease>,
}

impl GreedyConsumer {
    pub fn new(consumer: Box<dyn Consumer>, partitions: u16) -> Self {
        let mut consumer = Self {
            consumer,
            partitions,
            held: Vec::new(),
        };
        consumer.resume();
        consumer
    }

    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            match self.consumer.next().await? {
                Arrival::Delivery(delivery) => return Some(delivery),
                Arrival::Leased(lease) => {
                    self.held.push(lease);
                    self.consumer.consume(lease);
                }
                Arrival::Lost(lease) => self.held.retain(|held| *held != lease),
            }
        }
    }

    pub fn resume(&mut self) {
        for partition in 0..self.partitions {
            self.consumer.claim(partition);
        }
    }

    /// Gives every lease up, and returns when all are gone.
    pub async fn suspend(&mut self) {
        for partition in 0..self.partitions {
            self.consumer.release(partition);
        }
        let gone = async {
            while !self.held.is_empty() {
                match self.consumer.next().await {
                    Some(Arrival::Leased(lease)) => self.held.push(lease),
                    Some(Arrival::Lost(lease)) => self.held.retain(|held| *held != lease),
                    Some(Arrival::Delivery(delivery)) => delivery.hand_back(),
                    None => return,
                }
            }
        };
        timeout(PATIENCE, gone).await.expect("leases are given up");
    }

    pub fn link(&self) -> watch::Receiver<Link> {
        self.consumer.link()
    }

    pub async fn close(self) {
        self.consumer.close().await;
    }
}

//! `usher batch watch`: the account of a batch, again and again, until all of its commands have ended.

use std::pin::pin;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use usher::broker::Streamed;
use usher::clock::Clock;
use usher::contract::Orders;
use usher::operations::batch::{Book, Status};

use super::Which;
use super::account::{self, exit_of, not_looked, progress, refuse_unknown, totals};
use crate::cli::exit::Exit;
use crate::cli::operator::Operator;
use crate::cli::{Context, bar, note, print, signals};

const DRAW_EVERY: Duration = Duration::from_secs(1);

/// Without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The orders are read so often, and for so long at most.
const ORDERS_EVERY: Duration = Duration::from_secs(10);
const ORDERS_WITHIN: Duration = Duration::from_secs(5);

pub async fn watch(context: &Context, which: Which) -> anyhow::Result<Exit> {
    let mut interrupted = pin!(signals::first()?);
    let operator = Operator::connect(context, which.scope).await?;
    let (inspector, provider) = (&*operator.inspector, &operator.provider);
    let now = Clock::System.now();
    let mut book = Book::open(inspector, provider, &which.batch, which.since, now)
        .await
        .map_err(not_looked)?;
    let mut reader = book.log(inspector).await.map_err(not_looked)?;
    tokio::select! {
        () = &mut interrupted => return Ok(Exit::Interrupted),
        read = book.read_on(&mut *reader) => read.map_err(not_looked)?,
    }
    refuse_unknown(&book)?;
    let mut screen = Screen::new();
    let mut latest = Latest::new(account::orders(&operator).await?);
    let mut tick = interval(DRAW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // A reader's future is not dropped halfway: it may hold a message.
        let mut next = pin!(reader.next());
        let streamed = loop {
            tokio::select! {
                biased;
                () = &mut interrupted => {
                    screen.clear();
                    print(&account::marked(&book.status(&latest.orders, Clock::System.now())))?;
                    return Ok(Exit::Interrupted);
                }
                _ = tick.tick() => {
                    latest.refresh(&operator).await;
                    let status = book.status(&latest.orders, Clock::System.now());
                    if status.done {
                        screen.clear();
                        operator.close().await;
                        print(&account::marked(&status))?;
                        return Ok(exit_of(&status));
                    }
                    screen.draw(&status);
                }
                streamed = &mut next => break streamed.map_err(not_looked)?,
            }
        };
        match streamed {
            Streamed::Message(message) => book.take(&message),
            Streamed::Present => book.complete = true,
        }
    }
}

/// The orders, as they were a moment ago.
struct Latest {
    orders: Orders,
    at: Instant,
}

impl Latest {
    fn new(orders: Orders) -> Self {
        Self {
            orders,
            at: Instant::now(),
        }
    }

    /// Those of before stay where they can't be read: the outcome log tells when the broker is away.
    async fn refresh(&mut self, operator: &Operator) {
        if self.at.elapsed() < ORDERS_EVERY {
            return;
        }
        self.at = Instant::now();
        if let Ok(Ok(orders)) = timeout(ORDERS_WITHIN, operator.steering().orders()).await {
            self.orders = orders;
        }
    }
}

/// A block that is drawn again on a terminal, and lines elsewhere.
struct Screen {
    bar: ProgressBar,
    next_line: Instant,
}

impl Screen {
    fn new() -> Self {
        Self {
            bar: bar::block(),
            next_line: Instant::now(),
        }
    }

    fn draw(&mut self, status: &Status) {
        if !self.bar.is_hidden() {
            self.bar.set_message(bar::fitted(&account::text(status)));
            return;
        }
        if Instant::now() >= self.next_line {
            self.next_line = Instant::now() + LINE_EVERY;
            let paused = if status.held.is_some() { "; paused" } else { "" };
            note(&format!(
                "usher: {}; {}{paused}",
                totals(status),
                progress(status)
            ));
        }
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

//! What the host offers to plugins that are granted it: system statistics. Modbus lines: [`super::modbus`]; digital lines:
//! [`super::lines`].

use std::time::Duration;

use wasmtime::Result;

use super::bindings::outstation::sys::{activity, stats};
use super::guest::Guest;
use crate::device::system::Statistics;

impl stats::Host for Guest {
    async fn cpus(&mut self) -> Result<Vec<stats::Cpu>> {
        let Some(statistics) = &mut self.statistics else { return Ok(Vec::new()) };
        let cpus = statistics.cpus().await.into_iter();
        Ok(cpus.map(|cpu| stats::Cpu { name: cpu.name, usage_percent: cpu.usage }).collect())
    }

    async fn memory_info(&mut self) -> Result<Option<stats::Memory>> {
        let memory = self.statistics.as_ref().and_then(Statistics::memory);
        Ok(memory.map(|memory| stats::Memory {
            total: memory.total,
            available: memory.available,
            swap_total: memory.swap_total,
            swap_used: memory.swap_used,
        }))
    }

    async fn filesystems(&mut self) -> Result<Vec<stats::Filesystem>> {
        let Some(statistics) = &self.statistics else { return Ok(Vec::new()) };
        let list = statistics.filesystems().await.into_iter();
        Ok(list
            .map(|one| stats::Filesystem {
                mount: one.mount,
                total: one.total,
                used: one.used,
                available: one.available,
            })
            .collect())
    }

    async fn interfaces(&mut self) -> Result<Vec<stats::Netif>> {
        let Some(statistics) = &self.statistics else { return Ok(Vec::new()) };
        let list = statistics.interfaces().await.into_iter();
        Ok(list
            .map(|one| stats::Netif {
                name: one.name,
                rx_bytes: one.rx_bytes,
                tx_bytes: one.tx_bytes,
                rx_errors: one.rx_errors,
                tx_errors: one.tx_errors,
            })
            .collect())
    }

    async fn thermals(&mut self) -> Result<Vec<stats::Thermal>> {
        let Some(statistics) = &self.statistics else { return Ok(Vec::new()) };
        let list = statistics.thermals().await.into_iter();
        Ok(list.map(|one| stats::Thermal { label: one.label, celsius: one.celsius, critical: one.critical }).collect())
    }

    async fn load_average(&mut self) -> Result<Option<stats::Load>> {
        let load = self.statistics.as_ref().and_then(Statistics::load);
        Ok(load.map(|load| stats::Load { one: load.one, five: load.five, fifteen: load.fifteen }))
    }

    async fn uptime(&mut self) -> Result<Option<u64>> {
        let uptime = self.statistics.as_ref().and_then(Statistics::uptime);
        Ok(uptime.map(nanoseconds))
    }
}

impl activity::Host for Guest {
    async fn disks(&mut self) -> Result<Vec<activity::DiskIo>> {
        let list = self.statistics.as_ref().map(Statistics::disks).unwrap_or_default().into_iter();
        Ok(list
            .map(|one| activity::DiskIo {
                name: one.name,
                read_bytes: one.read_bytes,
                written_bytes: one.written_bytes,
                busy: nanoseconds(one.busy),
            })
            .collect())
    }

    async fn process_groups(&mut self, names: Vec<String>) -> Result<Vec<activity::ProcessGroup>> {
        let Some(statistics) = &self.statistics else { return Ok(Vec::new()) };
        let list = statistics.process_groups(names).await.into_iter();
        Ok(list
            .map(|one| activity::ProcessGroup {
                name: one.name,
                count: one.count,
                memory: one.memory,
                cpu: nanoseconds(one.cpu),
            })
            .collect())
    }

    async fn services(&mut self, names: Vec<String>) -> Result<Vec<activity::Service>> {
        let Some(statistics) = &self.statistics else { return Ok(Vec::new()) };
        let list = statistics.services(names).await.into_iter();
        Ok(list
            .map(|one| activity::Service { name: one.name, active: one.active, sub: one.sub, restarts: one.restarts })
            .collect())
    }

    async fn own_figures(&mut self) -> Result<Option<activity::Itself>> {
        let own = self.statistics.as_ref().and_then(Statistics::own);
        Ok(own.map(|own| activity::Itself {
            memory: own.memory,
            cpu: nanoseconds(own.cpu),
            threads: own.threads,
            descriptors: own.descriptors,
            buffered: own.buffered,
            buffer_bytes: own.buffer_bytes,
            accepted: own.accepted,
            delivered: own.delivered,
            dropped: own.dropped,
        }))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

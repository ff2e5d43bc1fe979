//! The bindings to `plugins/wit`, as they are generated: the host's side of everything that it offers.

#![allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]

wasmtime::component::bindgen!({
    path: "plugins/wit",
    world: "outstation:plugin/host",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "outstation:modbus/client.device": super::modbus::Device,
        "outstation:gpio/lines.input": crate::device::gpio::Input,
        "outstation:gpio/lines.output": crate::device::gpio::Output,
    },
});

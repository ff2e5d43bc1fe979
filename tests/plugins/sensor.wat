;; A whole plugin in component text: the world `base` of plugins/wit, with holes for what a test makes of it.
;; fixtures.rs fills the holes, which are written as a name in braces.
;;
;; Memory: 16 a result without a payload, 64 what `init` returns, 128 what `run` returns, 256 the texts, 512 `about`,
;; 576 the two points, 1024 the readings, 65536 whatever the host hands over.
(component
  {imports}
  (core module $plugin
    {core_imports}
    {memory}
    {globals}
    (global $polls (mut i64) (i64.const 0))
    (data (i32.const 256) "{name}")
    (data (i32.const 320) "1.2.3")
    (data (i32.const 336) "count")
    (data (i32.const 344) "level")
    (data (i32.const 352) "mm")
    (data (i32.const 360) "odd-weather")

    (func $text (param $at i32) (param $start i32) (param $length i32)
      (i32.store (local.get $at) (local.get $start))
      (i32.store offset=4 (local.get $at) (local.get $length)))

    ;; A point: name, title, kind, class, unit, range, attributes; 64 bytes.
    (func $point (param $at i32) (param $id i32) (param $kind i32) (param $class i32)
      (call $text (local.get $at) (local.get $id) (i32.const 5))
      (call $text (i32.add (local.get $at) (i32.const 8)) (local.get $id) (i32.const 5))
      (i32.store8 offset=16 (local.get $at) (local.get $kind))
      (i32.store8 offset=17 (local.get $at) (local.get $class)))

    ;; A reading: point, value, quality, time; 56 bytes.
    (func $reading (param $at i32) (param $point i32) (param $variant i32) (param $bits i64)
      (memory.fill (local.get $at) (i32.const 0) (i32.const 56))
      (i32.store (local.get $at) (local.get $point))
      (i32.store8 offset=8 (local.get $at) (i32.const 1))
      (i32.store8 offset=16 (local.get $at) (local.get $variant))
      (i64.store offset=24 (local.get $at) (local.get $bits)))

    ;; What a run returns: so many readings from 1024 on.
    (func $outcome (param $count i32) (result i32)
      (memory.fill (i32.const 128) (i32.const 0) (i32.const 40))
      (i32.store (i32.const 136) (i32.const 1024))
      (i32.store (i32.const 140) (local.get $count))
      (i32.const 128))

    ;; Both points, as they should be: how often it ran, and a level.
    (func $steady (result i32)
      (global.set $polls (i64.add (global.get $polls) (i64.const 1)))
      (call $reading (i32.const 1024) (i32.const 0) (i32.const 2) (global.get $polls))
      (call $reading (i32.const 1080) (i32.const 1) (i32.const 3) (i64.reinterpret_f64 (f64.const 12.5)))
      (call $outcome (i32.const 2)))

    (func $nothing (result i32) (i32.const 16))

    (func $set_up
      (call $text (i32.const 512) (i32.const 256) (i32.const {name_length}))
      (call $text (i32.const 520) (i32.const 320) (i32.const 5))
      (call $text (i32.const 536) (i32.const 576) (i32.const 2))
      (call $text (i32.const 544) (i32.const 372) (i32.const 1))
      (call $text (i32.const 372) (i32.const 360) (i32.const 11))
      (call $point (i32.const 576) (i32.const 336) (i32.const 2) (i32.const 1))
      (call $point (i32.const 640) (i32.const 344) (i32.const 3) (i32.const 0))
      (call $text (i32.const 660) (i32.const 352) (i32.const 2)))
    {functions}
    (func $start (call $set_up) {start})
    (start $start)

    (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
    (func (export "check") (param $config i32) (param $length i32) (result i32) {check})
    (func (export "describe") (result i32) {describe})
    (func (export "init") (result i32) {init})
    (func (export "run") (param $trigger i32) (param i32 i32) (param $now i64) (param $deadline i64) (result i32) {run})
    (func (export "stop") {stop}))

  {lowered}
  (core instance $i (instantiate $plugin {with}))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))

  (type $duration u64)
  (type $severity' (enum "good" "uncertain" "bad"))
  (export $severity "severity" (type $severity'))
  (type $quality' (record (field "severity" $severity) (field "code" u16)))
  (export $quality "quality" (type $quality'))
  (type $value' (variant (case "boolean" bool) (case "integer" s64) (case "unsigned" u64) (case "real" f64)
    (case "text" string) (case "bytes" (list u8))))
  (export $value "value" (type $value'))
  (type $kind' (enum "boolean" "integer" "unsigned" "real" "text" "bytes"))
  (export $kind "value-kind" (type $kind'))
  (type $class' (enum "gauge" "counter" "state" "event"))
  (export $class "point-class" (type $class'))
  (type $point' (record (field "id" string) (field "title" string) (field "kind" $kind) (field "class" $class)
    (field "unit" string) (field "range" (option (tuple f64 f64))) (field "attributes" (list (tuple string string)))))
  (export $point "point" (type $point'))
  (type $reading' (record (field "point" u32) (field "value" (option $value)) (field "quality" $quality)
    (field "at" (option s64))))
  (export $reading "reading" (type $reading'))
  (type $about' (record (field "name" string) (field "version" string) (field "vendor" string)
    (field "points" (list $point)) (field "reasons" (list string))))
  (export $about "about" (type $about'))
  (type $failure' (variant (case "config" string) (case "unavailable" string) (case "internal" string)))
  (export $failure "failure" (type $failure'))
  (type $trigger' (variant (case "start") (case "schedule" u32) (case "gpio" string)))
  (export $trigger "trigger" (type $trigger'))
  (type $outcome' (record (field "readings" (list $reading)) (field "next" (option u64)) (field "points-changed" bool)))
  (export $outcome "outcome" (type $outcome'))
  (type $problem' (record (field "path" string) (field "message" string) (field "hint" (option string))))
  (export $problem "problem" (type $problem'))

  (func $check (param "config" string) (result (list $problem))
    (canon lift (core func $i "check") (memory $memory) (realloc $realloc)))
  (func $describe (result $about) (canon lift (core func $i "describe") (memory $memory)))
  (func $init (result (result (error $failure))) (canon lift (core func $i "init") (memory $memory)))
  (func $run (param "trigger" $trigger) (param "now" s64) (param "deadline" u64)
    (result (result $outcome (error $failure)))
    (canon lift (core func $i "run") (memory $memory) (realloc $realloc)))
  (func $stop (canon lift (core func $i "stop")))
  (instance $sensor
    (export "check" (func $check)) (export "describe" (func $describe)) (export "init" (func $init))
    (export "run" (func $run)) (export "stop" (func $stop)))
  (export "outstation:plugin/sensor@0.1.0" (instance $sensor))
  {exports}
)

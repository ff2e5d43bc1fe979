// An energy meter on a Modbus line: voltage, current, power and energy out of eight input registers.
//
//   register  0      voltage, 0.1 V
//             1, 2   current, mA
//             3, 4   power, W, signed: negative where it feeds in
//             5, 6   energy, W.h
//             7      status: 0 good, 1 the voltage is doubtful
//
// Configuration: bus, unit.

#include <stdlib.h>
#include <string.h>

#include "../../template/c/bindings/outstation.h"

enum { VOLTAGE, CURRENT, POWER, ENERGY, POINTS };
enum { FIRST = 0, COUNT = 8, NAME_MAX = 64 };
enum { CODE_TIMEOUT = 1, CODE_LINK = 2, CODE_DENIED = 3, CODE_MODBUS = 256, CODE_OWN = 512 };

static char bus[NAME_MAX];
static int unit = -1;
static bool is_open;
static outstation_modbus_client_own_device_t device;

static host_string_t text(const char *from) {
  host_string_t copy;
  host_string_dup(&copy, from);
  return copy;
}

// The value of a key of the one table that the configuration is; NULL where there is none. A plugin with more to read
// brings a JSON parser.
static const char *value(const char *json, const char *key) {
  size_t length = strlen(key);
  for (const char *at = strchr(json, '"'); at; at = strchr(at + 1, '"')) {
    if (!strncmp(at + 1, key, length) && at[1 + length] == '"') {
      at += length + 2;
      at += strspn(at, " \t\n:");
      return at;
    }
  }
  return NULL;
}

// Takes bus and unit out of the configuration. Gives what is wrong, or NULL; `path` says where.
static const char *read_config(host_string_t *config, const char **path) {
  char *json = malloc(config->len + 1);
  memcpy(json, config->ptr, config->len);
  json[config->len] = 0;
  const char *wrong = NULL;
  const char *name = value(json, "bus");
  size_t length = name && *name == '"' ? strcspn(name + 1, "\"") : 0;
  if (length == 0 || length >= NAME_MAX) {
    *path = "/bus";
    wrong = "the name of a bus belongs here";
  } else {
    memcpy(bus, name + 1, length);
    bus[length] = 0;
    const char *number = value(json, "unit");
    char *end = NULL;
    long parsed = number ? strtol(number, &end, 10) : -1;
    if (end == number || parsed < 0 || parsed > 255) {
      *path = "/unit";
      wrong = "a number from 0 to 255 belongs here";
    } else {
      unit = (int)parsed;
    }
  }
  free(json);
  return wrong;
}

void exports_outstation_plugin_sensor_check(host_string_t *config, exports_outstation_plugin_sensor_list_problem_t *ret) {
  const char *path = "";
  const char *wrong = read_config(config, &path);
  host_string_free(config);
  ret->len = wrong ? 1 : 0;
  ret->ptr = wrong ? calloc(1, sizeof *ret->ptr) : NULL;
  if (wrong) {
    ret->ptr[0].path = text(path);
    ret->ptr[0].message = text(wrong);
  }
}

static void describe(exports_outstation_plugin_sensor_point_t *point, const char *id, const char *title,
                     const char *measured_in, outstation_types_types_point_class_t point_class) {
  point->id = text(id);
  point->title = text(title);
  point->unit = text(measured_in);
  point->kind = OUTSTATION_TYPES_TYPES_VALUE_KIND_REAL;
  point->class_ = point_class;
}

void exports_outstation_plugin_sensor_describe(exports_outstation_plugin_sensor_about_t *ret) {
  memset(ret, 0, sizeof *ret);
  ret->name = text("energy-meter");
  ret->version = text("0.1.0");
  ret->vendor = text("");
  ret->points.len = POINTS;
  ret->points.ptr = calloc(POINTS, sizeof *ret->points.ptr);
  describe(&ret->points.ptr[VOLTAGE], "voltage", "Voltage", "V", OUTSTATION_TYPES_TYPES_POINT_CLASS_GAUGE);
  describe(&ret->points.ptr[CURRENT], "current", "Current", "A", OUTSTATION_TYPES_TYPES_POINT_CLASS_GAUGE);
  describe(&ret->points.ptr[POWER], "power", "Active power", "W", OUTSTATION_TYPES_TYPES_POINT_CLASS_GAUGE);
  describe(&ret->points.ptr[ENERGY], "energy", "Energy", "W.h", OUTSTATION_TYPES_TYPES_POINT_CLASS_COUNTER);
  ret->reasons.len = 1;
  ret->reasons.ptr = calloc(1, sizeof *ret->reasons.ptr);
  ret->reasons.ptr[0] = text("meter-warns");
}

bool exports_outstation_plugin_sensor_init(exports_outstation_plugin_sensor_failure_t *err) {
  host_string_t config;
  outstation_host_config_document(&config);
  const char *path = "";
  const char *wrong = read_config(&config, &path);
  host_string_free(&config);
  if (wrong) {
    err->tag = EXPORTS_OUTSTATION_PLUGIN_SENSOR_FAILURE_CONFIG;
    err->val.config = text(wrong);
  }
  return !wrong;
}

static uint16_t code_of(const outstation_modbus_client_error_t *error) {
  switch (error->tag) {
    case OUTSTATION_MODBUS_CLIENT_ERROR_TIMEOUT: return CODE_TIMEOUT;
    case OUTSTATION_MODBUS_CLIENT_ERROR_TRANSPORT: return CODE_LINK;
    case OUTSTATION_MODBUS_CLIENT_ERROR_DENIED: return CODE_DENIED;
    case OUTSTATION_MODBUS_CLIENT_ERROR_EXCEPTION: return CODE_MODBUS + error->val.exception;
    default: return 0;
  }
}

// Reads the registers into `words`; gives the code of a bad reading, or -1.
static int read_registers(uint16_t *words) {
  outstation_modbus_client_error_t error;
  if (!is_open) {
    host_string_t name = {(uint8_t *)bus, strlen(bus)};
    is_open = outstation_modbus_client_open(&name, (uint8_t)unit, &device, &error);
    if (!is_open) {
      int code = code_of(&error);
      outstation_modbus_client_error_free(&error);
      return code;
    }
  }
  outstation_modbus_client_read_t what = {OUTSTATION_MODBUS_CLIENT_TABLE_INPUT_REGISTERS, FIRST, COUNT};
  outstation_modbus_client_data_t data;
  if (!outstation_modbus_client_method_device_read(outstation_modbus_client_borrow_device(device), &what, &data, &error)) {
    int code = code_of(&error);
    outstation_modbus_client_error_free(&error);
    return code;
  }
  memcpy(words, data.val.registers.ptr, COUNT * sizeof *words);
  outstation_modbus_client_data_free(&data);
  return -1;
}

bool exports_outstation_plugin_sensor_run(exports_outstation_plugin_sensor_trigger_t *trigger,
                                          exports_outstation_plugin_sensor_timestamp_t now,
                                          exports_outstation_plugin_sensor_duration_t deadline,
                                          exports_outstation_plugin_sensor_outcome_t *ret,
                                          exports_outstation_plugin_sensor_failure_t *err) {
  (void)now, (void)deadline, (void)err;
  exports_outstation_plugin_sensor_trigger_free(trigger);
  memset(ret, 0, sizeof *ret);
  ret->readings.len = POINTS;
  ret->readings.ptr = calloc(POINTS, sizeof *ret->readings.ptr);
  uint16_t words[COUNT];
  int code = read_registers(words);
  double values[POINTS] = {0};
  if (code < 0) {
    values[VOLTAGE] = words[0] * 0.1;
    values[CURRENT] = ((uint32_t)words[1] << 16 | words[2]) * 0.001;
    values[POWER] = (int32_t)((uint32_t)words[3] << 16 | words[4]);
    values[ENERGY] = (uint32_t)words[5] << 16 | words[6];
  }
  for (uint32_t i = 0; i < POINTS; i++) {
    exports_outstation_plugin_sensor_reading_t *reading = &ret->readings.ptr[i];
    reading->point = i;
    if (code >= 0) {
      reading->quality.severity = OUTSTATION_TYPES_TYPES_SEVERITY_BAD;
      reading->quality.code = (uint16_t)code;
      continue;
    }
    reading->value.is_some = true;
    reading->value.val.tag = OUTSTATION_TYPES_TYPES_VALUE_REAL;
    reading->value.val.val.real = values[i];
    if (i == VOLTAGE && words[7] == 1) {
      reading->quality.severity = OUTSTATION_TYPES_TYPES_SEVERITY_UNCERTAIN;
      reading->quality.code = CODE_OWN;
    }
  }
  return true;
}

void exports_outstation_plugin_sensor_stop(void) {
  if (is_open) outstation_modbus_client_device_drop_own(device);
  is_open = false;
}

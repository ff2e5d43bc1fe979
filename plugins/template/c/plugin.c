// my-sensor: a sensor that counts up, as a start. Replace what `run` does by what yours measures.
//
// bindings/outstation.h is the interface; what is passed in is yours to free, what you return is freed for you.
// Configuration: `full`, in mm, where it begins again; default 1000.

#include <stdlib.h>
#include <string.h>

#include "bindings/outstation.h"

enum { LEVEL, POLLS, POINTS };

static double full = 1000.0;
static uint64_t polls;

static host_string_t text(const char *from) {
  host_string_t copy;
  host_string_dup(&copy, from);
  return copy;
}

// What stands behind a key of the one table that the configuration is; NULL where there is none. The host hands over JSON.
static const char *value(const char *json, const char *key) {
  size_t length = strlen(key);
  for (const char *at = strchr(json, '"'); at; at = strchr(at + 1, '"')) {
    if (!strncmp(at + 1, key, length) && at[1 + length] == '"') return at + length + 2 + strspn(at + length + 2, " :");
  }
  return NULL;
}

// Reads the configuration. Gives what is wrong with `full`, or NULL.
static const char *configure(host_string_t *config) {
  char *json = calloc(config->len + 1, 1);
  memcpy(json, config->ptr, config->len);
  host_string_free(config);
  const char *wrong = NULL;
  const char *written = value(json, "full");
  if (written) {
    char *end;
    full = strtod(written, &end);
    if (end == written || full <= 0) wrong = "a number above 0 belongs here";
  }
  free(json);
  return wrong;
}

// Everything that is wrong with a configuration; `outstation check` shows it at its line.
void exports_outstation_plugin_sensor_check(host_string_t *config, exports_outstation_plugin_sensor_list_problem_t *ret) {
  const char *wrong = configure(config);
  ret->len = wrong ? 1 : 0;
  ret->ptr = wrong ? calloc(1, sizeof *ret->ptr) : NULL;
  if (wrong) {
    ret->ptr[0].path = text("/full");
    ret->ptr[0].message = text(wrong);
  }
}

void exports_outstation_plugin_sensor_describe(exports_outstation_plugin_sensor_about_t *ret) {
  memset(ret, 0, sizeof *ret);
  ret->name = text("my-sensor");
  ret->version = text("0.1.0");
  ret->vendor = text("");
  ret->points.len = POINTS;
  ret->points.ptr = calloc(POINTS, sizeof *ret->points.ptr);
  ret->points.ptr[LEVEL].id = text("level");
  ret->points.ptr[LEVEL].title = text("Level of the tank");
  ret->points.ptr[LEVEL].unit = text("mm");
  ret->points.ptr[LEVEL].kind = OUTSTATION_TYPES_TYPES_VALUE_KIND_REAL;
  ret->points.ptr[POLLS].id = text("polls");
  ret->points.ptr[POLLS].title = text("Polls since the start");
  ret->points.ptr[POLLS].unit = text("");
  ret->points.ptr[POLLS].kind = OUTSTATION_TYPES_TYPES_VALUE_KIND_UNSIGNED;
  ret->points.ptr[POLLS].class_ = OUTSTATION_TYPES_TYPES_POINT_CLASS_COUNTER;
}

// Called once. False, with `err`, where it can't start.
bool exports_outstation_plugin_sensor_init(exports_outstation_plugin_sensor_failure_t *err) {
  (void)err;
  host_string_t config;
  outstation_host_config_document(&config);
  configure(&config);
  return true;
}

// Takes the readings: at the start, then by schedule.
bool exports_outstation_plugin_sensor_run(exports_outstation_plugin_sensor_trigger_t *trigger,
                                          exports_outstation_plugin_sensor_timestamp_t now,
                                          exports_outstation_plugin_sensor_duration_t deadline,
                                          exports_outstation_plugin_sensor_outcome_t *ret,
                                          exports_outstation_plugin_sensor_failure_t *err) {
  (void)now, (void)deadline, (void)err;
  exports_outstation_plugin_sensor_trigger_free(trigger);
  polls++;
  memset(ret, 0, sizeof *ret);
  ret->readings.len = POINTS;
  ret->readings.ptr = calloc(POINTS, sizeof *ret->readings.ptr);
  for (uint32_t point = 0; point < POINTS; point++) {
    ret->readings.ptr[point].point = point;
    ret->readings.ptr[point].value.is_some = true;
  }
  double level = (double)polls * 12.5;
  ret->readings.ptr[LEVEL].value.val.tag = OUTSTATION_TYPES_TYPES_VALUE_REAL;
  ret->readings.ptr[LEVEL].value.val.val.real = level - (double)(uint64_t)(level / full) * full;
  ret->readings.ptr[POLLS].value.val.tag = OUTSTATION_TYPES_TYPES_VALUE_UNSIGNED;
  ret->readings.ptr[POLLS].value.val.val.unsigned_ = polls;
  return true;
}

// The end: the last chance to write state.
void exports_outstation_plugin_sensor_stop(void) {}

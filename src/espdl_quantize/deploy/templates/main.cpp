// Runs the model on the board and prints what can be measured there. Lines that begin with
// "espdlq " are for `espdl-quantize device-log`; ESP-DL prints the rest.

#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "dl_model_base.hpp"
#include "esp_timer.h"
#include "model_io.h"

#if !MODEL_IN_PARTITION
extern const uint8_t model_in_rodata[] asm("_binary_model_espdl_start");
#endif

namespace {

constexpr int kRuns = 10;

dl::Model *load()
{
#if MODEL_IN_PARTITION
    const char *where = "model";
    const fbs::model_location_type_t location = fbs::MODEL_LOCATION_IN_FLASH_PARTITION;
#else
    const char *where = reinterpret_cast<const char *>(model_in_rodata);
    const fbs::model_location_type_t location = fbs::MODEL_LOCATION_IN_FLASH_RODATA;
#endif
    return new dl::Model(where, location, 0, dl::MEMORY_MANAGER_GREEDY, nullptr, MODEL_COPY_PARAMETERS);
}

#if MODEL_HAS_TEST_VALUES

// ESP-DL's own test() ends at the first number that differs; this counts all of them.
template <typename T>
void compare(const char *name, const T *found, const T *expected, int count)
{
    int differing = 0;
    int first = -1;
    double largest = 0.0;
    for (int i = 0; i < count; i++) {
        const double apart = std::fabs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
        // Written so that a NaN differs, too.
        if (!(apart <= 0.0)) {
            differing++;
            first = first < 0 ? i : first;
            largest = apart > largest ? apart : largest;
        }
    }
    printf("espdlq output count=%d differing=%d largest=%.9g", count, differing, largest);
    if (first >= 0) {
        printf(" first=%d expected=%.9g found=%.9g",
               first,
               static_cast<double>(expected[first]),
               static_cast<double>(found[first]));
    }
    printf(" name=%s\n", name);
}

void compare_outputs(dl::Model *model)
{
    fbs::FbsModel *file = model->get_fbs_model();
    file->load_map();
    bool assigned = true;
    for (auto &input : model->get_inputs()) {
        dl::TensorBase *recorded = file->get_test_input_tensor(input.first);
        assigned = assigned && recorded != nullptr && input.second->assign(recorded);
        delete recorded;
    }
    if (assigned) {
        model->run();
    }
    for (auto &output : model->get_outputs()) {
        dl::TensorBase *expected = file->get_test_output_tensor(output.first);
        dl::TensorBase *found = output.second;
        const char *name = output.first.c_str();
        const bool alike = assigned && expected != nullptr && found != nullptr &&
            expected->get_dtype() == found->get_dtype() && expected->get_size() == found->get_size();
        if (!alike) {
            printf("espdlq unlike name=%s\n", name);
        } else if (found->get_dtype() == dl::DATA_TYPE_INT8) {
            compare(name, found->get_element_ptr<int8_t>(), expected->get_element_ptr<int8_t>(), found->get_size());
        } else if (found->get_dtype() == dl::DATA_TYPE_INT16) {
            compare(name, found->get_element_ptr<int16_t>(), expected->get_element_ptr<int16_t>(), found->get_size());
        } else if (found->get_dtype() == dl::DATA_TYPE_FLOAT) {
            compare(name, found->get_element_ptr<float>(), expected->get_element_ptr<float>(), found->get_size());
        } else {
            printf("espdlq uncompared name=%s\n", name);
        }
        delete expected;
    }
    file->clear_map();
}

#endif

void print_memory(dl::Model *model)
{
    const auto memory = model->get_memory_info();
    const auto total = memory.find("total");
    if (total != memory.end()) {
        printf("espdlq memory internal=%lu psram=%lu flash=%lu\n",
               static_cast<unsigned long>(total->second.internal),
               static_cast<unsigned long>(total->second.psram),
               static_cast<unsigned long>(total->second.flash));
    }
}

} // namespace

extern "C" void app_main(void)
{
    printf("\nespdlq begin format=1 chip=%s esp_dl=%s iteration=%d weights=%s sha256=%s\n",
           MODEL_CHIP,
           MODEL_ESP_DL,
           MODEL_ITERATION,
           MODEL_COPY_PARAMETERS ? "psram" : "flash",
           MODEL_SHA256);
    dl::Model *model = load();
    if (model->get_inputs().empty()) {
        // ESP-DL has said why above. Nothing else of the model may be touched.
        printf("espdlq load failed\nespdlq end\n");
        return;
    }
    printf("espdlq load passed\n");
    print_memory(model);
#if MODEL_HAS_TEST_VALUES
    printf("espdlq test %s\n", model->test() == ESP_OK ? "passed" : "failed");
    compare_outputs(model);
#endif
    model->profile();
    for (int i = 0; i < kRuns; i++) {
        const int64_t started = esp_timer_get_time();
        model->run();
        printf("espdlq run us=%" PRId64 "\n", esp_timer_get_time() - started);
    }
    printf("espdlq end\n");
    delete model;
}

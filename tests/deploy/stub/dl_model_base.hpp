// As much of ESP-DL's interface as main.cpp uses, with a model of one input and two outputs.
// Environment variables choose what goes wrong.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

typedef int esp_err_t;
#define ESP_OK 0
#define ESP_FAIL -1

inline bool asked(const char *what) { return std::getenv(what) != nullptr; }

namespace dl {

typedef enum { MEMORY_MANAGER_GREEDY = 0 } memory_manager_t;
typedef enum { DATA_TYPE_FLOAT = 1, DATA_TYPE_INT8 = 3, DATA_TYPE_INT16 = 5 } dtype_t;

struct mem_info_t {
    size_t psram, internal, flash;
};

class TensorBase {
public:
    TensorBase(dtype_t type, std::vector<int16_t> numbers) : m_type(type), m_wide(numbers)
    {
        for (int16_t number : numbers) {
            m_narrow.push_back(static_cast<int8_t>(number));
            m_real.push_back(static_cast<float>(number) / 4.0f);
        }
    }
    bool assign(TensorBase *other)
    {
        *this = *other;
        return true;
    }
    dtype_t get_dtype() { return m_type; }
    int get_size() { return static_cast<int>(m_wide.size()); }
    template <typename T> T *get_element_ptr()
    {
        if (m_type == DATA_TYPE_INT8) {
            return reinterpret_cast<T *>(m_narrow.data());
        }
        if (m_type == DATA_TYPE_INT16) {
            return reinterpret_cast<T *>(m_wide.data());
        }
        return reinterpret_cast<T *>(m_real.data());
    }

private:
    dtype_t m_type;
    std::vector<int16_t> m_wide;
    std::vector<int8_t> m_narrow;
    std::vector<float> m_real;
};

} // namespace dl

namespace fbs {

typedef enum {
    MODEL_LOCATION_IN_FLASH_RODATA = 0,
    MODEL_LOCATION_IN_FLASH_PARTITION = 1,
} model_location_type_t;

class FbsModel {
public:
    void load_map() { m_loaded = true; }
    void clear_map() { m_loaded = false; }
    dl::TensorBase *get_test_input_tensor(std::string)
    {
        return m_loaded ? new dl::TensorBase(dl::DATA_TYPE_INT8, {1, 2, 3}) : nullptr;
    }
    dl::TensorBase *get_test_output_tensor(std::string name)
    {
        if (!m_loaded) {
            return nullptr;
        }
        if (name == "boxes") {
            return new dl::TensorBase(dl::DATA_TYPE_INT16, {300, -300});
        }
        return new dl::TensorBase(dl::DATA_TYPE_INT8, {5, -6, 7, 8});
    }

private:
    bool m_loaded = false;
};

} // namespace fbs

namespace dl {

class Model {
public:
    Model(const char *where, fbs::model_location_type_t location, int, memory_manager_t, const uint8_t *, bool copies)
    {
        std::printf("stub: %s, copies %d\n", location ? where : "rodata", copies);
        if (location == fbs::MODEL_LOCATION_IN_FLASH_RODATA && std::memcmp(where, "EDL2", 4) != 0) {
            std::printf("E (1) FbsLoader: no model\n");
            return;
        }
        if (asked("STUB_UNSUPPORTED")) {
            std::printf("E (432) dl::Model: Do not support Erf, please implement and register it first.\n");
            return;
        }
        m_inputs["image"] = new TensorBase(DATA_TYPE_INT8, {0, 0, 0});
        m_outputs["boxes"] = new TensorBase(DATA_TYPE_INT16, {0, 0});
        m_outputs["scores of it"] = new TensorBase(DATA_TYPE_INT8, {0, 0, 0, 0});
    }
    std::map<std::string, TensorBase *> &get_inputs() { return m_inputs; }
    std::map<std::string, TensorBase *> &get_outputs() { return m_outputs; }
    fbs::FbsModel *get_fbs_model() { return &m_file; }
    void run()
    {
        const int16_t first = m_inputs["image"]->get_element_ptr<int8_t>()[0];
        const int16_t off = asked("STUB_DIFFERS") ? 2 : 0;
        TensorBase scores(DATA_TYPE_INT8, {static_cast<int16_t>(4 + first), -6, static_cast<int16_t>(7 - off), 8});
        TensorBase boxes(DATA_TYPE_INT16, {300, -300});
        m_outputs["scores of it"]->assign(&scores);
        m_outputs["boxes"]->assign(&boxes);
    }
    esp_err_t test()
    {
        if (asked("STUB_DIFFERS")) {
            std::printf("E (901) compare_elements: Inconsistent values, ground truth: 7.0000000000, infer: "
                        "5.0000000000, epsilon:0.0000200000\n");
            std::printf("E (902) compare_elements: The position is: [0, 2]\n");
            std::printf("E (903) dl::Model: Test output scores of it does not match\n\n");
            return ESP_FAIL;
        }
        std::printf("I (904) dl::Model: Test Pass!\n");
        return ESP_OK;
    }
    std::map<std::string, mem_info_t> get_memory_info() { return {{"total", {204800, 10240, 4096}}}; }
    void profile()
    {
        std::printf("I (950) dl::Model: | /stem/Conv | Conv | 1500us  |\n");
        std::printf("I (951) dl::Model: | total      |      | 1500us  |\n");
    }

private:
    std::map<std::string, TensorBase *> m_inputs, m_outputs;
    fbs::FbsModel m_file;
};

} // namespace dl

//! Every check of `osp selftest`, on the emulator under three orders of threads.

use super::contract;
use osp::cuda::device::{Dry, entry_points};
use osp::cuda::{Cuda, Half};
use osp::profile::{Profiled, Recorder};
use osp::selftest::{FACTS, Finding, STEMS, Trial, checks, work};
use std::collections::BTreeSet;
use std::sync::Arc;

fn on_the_emulator(stem: &str, name: &str) {
    // Threads in order, shuffled, and with single warps ahead.
    let mut trial = Trial::emulated(&[0, 1, 2]);
    let checks = checks(stem).expect("a stem of the list");
    let check = checks.iter().find(|check| check.name == name).expect("a check of the stem");
    check.run(&mut trial).unwrap();
    let failure = |(kernel, finding): (&String, &Finding)| Some(format!("{kernel}: {}", finding.failure.as_ref()?));
    let failures: Vec<String> = trial.findings().iter().filter_map(failure).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A test for each check, and the list of all.
macro_rules! tests {
    ($($stem:ident { $($name:ident)* })*) => {
        $(mod $stem {
            $(#[test]
            fn $name() {
                super::on_the_emulator(stringify!($stem), stringify!($name));
            })*
        })*

        const TESTED: &[(&str, &[&str])] = &[$((stringify!($stem), &[$(stringify!($name)),*])),*];
    };
}

tests! {
    attention {
        sequences_of_any_length_agree_with_the_cpu
        heads_of_any_width_agree_with_the_cpu
        temporal_attention_agrees_with_the_cpu
        shared_and_masked_keys_agree_with_the_cpu
        many_keys_agree_with_the_cpu
        a_block_makes_many_tasks_with_the_same_bits
        relative_positions_and_masked_tiles_agree_with_the_cpu
        masks_and_biases_of_any_width_agree_with_the_cpu
        rope_agrees_with_the_cpu
        large_scores_agree_with_the_cpu
        teams_of_many_queries_agree_with_the_cpu
        teams_that_meet_as_many_keys_give_the_same_bits
        wide_heads_agree_with_the_cpu
        wide_temporal_attention_agrees_with_the_cpu
        large_scores_of_wide_heads_agree_with_the_cpu
        hostile_inputs_stay_within_the_bounds
    }
    conv3d {
        windows_agree_with_the_cpu
        enlargements_agree_with_the_cpu
        wide_tiles_agree_with_the_cpu
        boxes_agree_with_the_cpu
        a_block_makes_many_boxes_with_the_same_bits
        few_output_channels_agree_with_the_cpu
        strides_and_other_kernels_agree_with_the_cpu
        odd_input_channels_agree_with_the_cpu
        chunks_of_time_are_bit_for_bit_the_whole
        every_tile_gives_the_same_bits
        a_stretch_has_the_bits_of_the_whole
        hostile_inputs_stay_within_the_bounds
    }
    depthwise {
        depthwise_conv_in_space_agrees_with_the_cpu
        depthwise_conv_in_time_agrees_with_the_cpu
        hostile_inputs_stay_within_the_bounds
    }
    distance {
        sums_agree_with_the_cpu
        every_element_counts_once
        equal_tensors_have_no_distance
        sums_have_the_same_bits_every_time
        hostile_inputs_stay_within_the_bounds
    }
    embed {
        embedding_copies_rows
        add_rows_agrees_with_the_cpu
        hostile_inputs_stay_within_the_bounds
    }
    enlarge {
        folded_enlargements_have_the_bits_of_the_cpu
        hostile_inputs_stay_within_the_bounds
    }
    facts {
        products_have_the_emulators_bits
        copies_of_fewer_bytes_fill_with_zeros
        each_half_of_a_block_has_its_own_barrier
        boxes_have_their_swizzle_and_zeros_outside
        products_of_a_warpgroup_have_the_emulators_bits
        an_operand_may_begin_at_any_row
        a_product_reads_part_of_a_panel
        a_product_takes_its_left_factor_from_registers
        blocks_of_a_cluster_load_for_each_other
        warpgroups_exchange_registers
    }
    finite {
        the_first_value_that_is_not_finite_is_found
        the_first_of_several_is_found
        no_finite_number_is_reported
        hostile_inputs_stay_within_the_bounds
    }
    folded {
        moments_agree_with_the_cpu
        folding_agrees_with_the_cpu
        layers_with_a_folded_norm_agree_with_the_cpu
        parts_of_a_layer_with_a_folded_norm_have_the_bits_of_the_whole
        layers_leave_the_bits_of_the_moments_of_their_results
        hostile_inputs_stay_within_the_bounds
    }
    gemm {
        few_rows_agree_with_the_cpu
        many_rows_agree_with_the_cpu
        odd_inner_sizes_agree_with_the_cpu
        a_weight_may_be_stacked_from_several_tensors
        every_tile_gives_the_same_bits
        a_row_has_the_same_bits_alone_and_among_many
        a_block_makes_many_tiles_with_the_same_bits
        parts_have_the_bits_of_the_whole
        hostile_inputs_stay_within_the_bounds
    }
    groupnorm {
        group_norm_agrees_with_the_cpu
        a_mean_far_from_zero_does_not_cancel
        a_constant_video_becomes_the_bias
        stretches_of_time_give_the_bits_of_the_whole
        a_frame_has_the_same_bits_alone_and_among_others
        hostile_inputs_stay_within_the_bounds
    }
    norm {
        layer_norm_agrees_with_the_cpu
        rms_norm_agrees_with_the_cpu
        ada_layer_norm_agrees_with_the_cpu
        hostile_inputs_stay_within_the_bounds
    }
    patch {
        patch_embed_agrees_with_the_cpu
        unpatchify_puts_every_kept_channel_in_its_place
        hostile_inputs_stay_within_the_bounds
    }
    pixels {
        from_bytes_gives_the_pixels_of_the_cpu
        to_bytes_gives_the_bytes_of_the_cpu
        hostile_inputs_stay_within_the_bounds
    }
    resample {
        time_average_agrees_with_the_cpu
        time_double_agrees_with_the_cpu
        the_first_frame_keeps_its_bits
        regroup_frames_moves_vectors
        regroup_frames_moves_single_elements
        hostile_inputs_stay_within_the_bounds
    }
    sampler {
        states_are_combined_to_the_bit
        buffers_of_both_precisions_mix
        a_product_of_minus_zero_becomes_zero
        the_clamp_passes_nan_and_stops_infinities
        combine_accepts_zero_elements
        masks_hold_a_clip_to_the_bit
        hold_accepts_zero_elements
        hostile_inputs_stay_within_the_bounds
    }
    tile {
        copy_box_moves_vectors
        copy_box_moves_single_elements
        an_empty_box_changes_nothing
        blend_box_fades_rows_and_columns
        hostile_inputs_stay_within_the_bounds
    }
}

#[test]
fn each_check_is_a_separate_test() {
    let mut stems = [&STEMS[..], &[FACTS]].concat();
    stems.sort();
    let names = |stem: &&str| checks(stem).expect("a stem of the list").iter().map(|check| check.name).collect();
    let listed: Vec<Vec<&str>> = stems.iter().map(names).collect();
    let listed: Vec<(&str, &[&str])> = stems.iter().copied().zip(listed.iter().map(Vec::as_slice)).collect();
    assert_eq!(TESTED, listed);
    assert!(checks("gemm2").is_none());
}

/// Kernels that the checks of all stems launch.
fn launched(trial: impl Fn() -> Trial) -> BTreeSet<String> {
    let mut launched = BTreeSet::new();
    for stem in STEMS.into_iter().chain([FACTS]) {
        let mut trial = trial();
        for check in checks(stem).expect("a stem of the list") {
            check.run(&mut trial).unwrap();
        }
        for (kernel, finding) in trial.findings() {
            assert_eq!(finding.failure, None, "{kernel}");
            launched.insert(kernel.clone());
        }
    }
    launched
}

#[test]
fn a_device_that_computes_nothing_passes_nothing() {
    for stem in STEMS.into_iter().chain([FACTS]) {
        let mut trial = Trial::new(Arc::new(Dry::new())).quick();
        for check in checks(stem).expect("a stem of the list") {
            check.run(&mut trial).unwrap();
        }
        for (kernel, finding) in trial.findings() {
            assert!(finding.failure.is_some(), "{kernel} passes with zeros for a result");
        }
    }
}

#[test]
fn every_entry_point_is_launched() {
    let all: BTreeSet<String> = contract::entry_points().collect();
    for launched in [launched(Trial::dry), launched(|| Trial::dry().quick())] {
        let missed: Vec<_> = all.difference(&launched).collect();
        assert!(missed.is_empty(), "no check launches {missed:?}");
        assert_eq!(launched.len(), all.len());
    }
}

#[test]
fn the_work_of_a_file_launches_its_kernels() {
    let recorder = Recorder::default();
    let kernels = Cuda::new(Arc::new(Profiled::new(Arc::new(Dry::new()), recorder.clone())), Half::F16);
    let launched = |stem| -> Vec<BTreeSet<String>> {
        let names = |work: osp::selftest::Work| {
            work.run(&kernels, Half::F16).unwrap();
            recorder.take().into_iter().map(|record| record.name).collect()
        };
        work(stem).unwrap().into_iter().map(names).collect()
    };
    for stem in STEMS {
        // Both files of attention have the same work, and each runs some of it.
        let wide = entry_points("attention_wide").unwrap().iter().filter(|_| stem == "attention");
        let of_wide: Vec<&str> = wide.copied().collect();
        let of_stem = entry_points(stem).unwrap();
        let all = launched(stem);
        for names in &all {
            let any_of = |file: &[&str]| names.iter().any(|name| file.contains(&name.as_str()));
            assert!(any_of(of_stem) || any_of(&of_wide), "{stem}: {names:?}");
        }
        assert!(of_wide.is_empty() || all.iter().flatten().any(|name| of_wide.contains(&name.as_str())));
    }
    assert!(work(FACTS).unwrap().is_empty() && work("nothing").is_none());
}
